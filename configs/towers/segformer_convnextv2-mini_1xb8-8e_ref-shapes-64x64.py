# The plain head of RefShapes on an untrained ConvNeXt V2 of transformers, with the grids of the
# small ResNet: strides 4, 8 and 16.
_base_ = '../mmseg_heads/segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'

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
