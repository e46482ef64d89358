# MiT-B2 and BERT, a cross-attention fusion at every level, and MMSegmentation's SegformerHead.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='MixVisionTransformer',
        embed_dims=64,
        num_heads=[1, 2, 5, 8],
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b2_20220624-66e8bf70.pth',
        ),
    ),
    text_encoder=dict(type='mmseg_aml.HFTextEncoder', name='bert-base-uncased', max_length=20),
    fusion=dict(
        type='mmseg_aml.CrossAttentionFusion',
        in_channels=[64, 128, 320, 512],
        text_channels=768,
        self_attention=[3],
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[64, 128, 320, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=1,
        threshold=0.5,  # MMSegmentation's default for one channel is 0.3
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='mmseg_aml.BinaryCrossEntropy'),
    ),
)
