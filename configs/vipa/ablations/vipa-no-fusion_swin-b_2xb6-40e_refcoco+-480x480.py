# Table 4: no fusion before the decoder; the image tower never sees the text.
_base_ = '../vipa_swin-b_2xb6-40e_refcoco+-480x480.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmseg_aml.SwinTransformer',
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=12,
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrained/swin_base_patch4_window12_384_22k.pth'
        ),
    ),
)
