# Table 4: late fusion, cross-attention from every level to the words after the backbone.
_base_ = './vipa-no-fusion_swin-b_2xb6-40e_refcoco+-480x480.py'

model = dict(
    fusion=dict(
        type='mmseg_aml.CrossAttentionFusion',
        in_channels=(128, 256, 512, 1024),
        text_channels=768,
    ),
)
