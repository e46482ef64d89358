# A small ReLA for RefShapes: the narrow ResNet-18 and one-layer BERT of the other small nets,
# 8 x 8 regions, three region layers.
_base_ = './segformer_r18-mini.py'

model = dict(
    fusion=dict(
        _delete_=True, type='mmseg_aml.PWAMFusion', in_channels=[24, 48, 96], text_channels=96
    ),
    decode_head=dict(
        _delete_=True,
        type='mmseg_aml.ReLAHead',
        in_channels=[24, 48, 96],
        channels=48,
        text_channels=96,
        grid=(8, 8),
        num_layers=3,
        num_heads=3,
        inner=96,
        pixel_layers=1,
        pixel_inner=96,
        norm_groups=8,
    ),
)
