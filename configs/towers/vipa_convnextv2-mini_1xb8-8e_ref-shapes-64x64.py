# VIPA on an untrained ConvNeXt V2 of transformers, with the grids of the small ResNet: strides
# 4, 8 and 16.
_base_ = [
    '../_base_/models/vipa_r18-mini.py',
    '../_base_/datasets/ref_shapes.py',
    '../_base_/schedules/ref_shapes_transformer_8e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg_aml.HFBackbone',
        config=dict(
            model_type='convnextv2', num_stages=3, depths=[2, 2, 2], hidden_sizes=[24, 48, 96]
        ),
        out_indices=(1, 2, 3),
    )
)
