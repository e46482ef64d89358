# VIPA's head on the small net for RefShapes: late fusion, 8 x 8 visual tokens at stride 8.
_base_ = './segformer_r18-mini.py'

model = dict(
    decode_head=dict(
        _delete_=True,
        type='mmseg_aml.VIPAHead',
        in_channels=(24, 48, 96),
        channels=48,
        text_channels=96,
        token_level=1,
        num_heads=3,
        threshold=0.5,
        norm_cfg=dict(type='BN'),
    ),
)
