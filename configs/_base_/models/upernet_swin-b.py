# Swin-B and BERT, a cross-attention fusion at every level, and MMSegmentation's UPerHead.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='mmseg_aml.SwinTransformer',
        embed_dims=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=7,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='swin_base_patch4_window7_224_22k.pth'),
    ),
    text_encoder=dict(type='mmseg_aml.HFTextEncoder', name='bert-base-uncased', max_length=20),
    fusion=dict(
        type='mmseg_aml.CrossAttentionFusion',
        in_channels=[128, 256, 512, 1024],
        text_channels=768,
        self_attention=[3],
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[128, 256, 512, 1024],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=1,
        threshold=0.5,  # MMSegmentation's default for one channel is 0.3
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='mmseg_aml.BinaryCrossEntropy'),
    ),
)
