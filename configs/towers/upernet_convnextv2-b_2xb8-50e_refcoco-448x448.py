_base_ = './upernet_dinov2-b_2xb8-50e_refcoco-448x448.py'

# Stages of strides 4 to 32: no pyramid is needed.
channels = [128, 256, 512, 1024]
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg_aml.HFBackbone',
        name='facebook/convnextv2-base-22k-384',
        drop_path_rate=0.3,
    ),
    neck=None,
    fusion=dict(in_channels=channels),
    decode_head=dict(in_channels=channels),
)
