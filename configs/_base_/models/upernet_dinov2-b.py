# DINOv2 ViT-B/14 of transformers and BERT, a pyramid of four strides (3.5 to 28 px), a
# cross-attention fusion at every level, and MMSegmentation's UPerHead.
channels = [768] * 4
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),  # colours of the weights
    backbone=dict(
        type='mmseg_aml.HFBackbone',
        name='facebook/dinov2-base',
        out_indices=(3, 6, 9, 12),
        drop_path_rate=0.1,  # as ViTDet, arXiv 2203.16527
    ),
    neck=dict(
        type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg
    ),
    text_encoder=dict(type='mmseg_aml.HFTextEncoder', name='bert-base-uncased', max_length=20),
    fusion=dict(
        type='mmseg_aml.CrossAttentionFusion',
        in_channels=channels,
        text_channels=768,
        self_attention=[3],
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=channels,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=2,
        out_channels=1,
        threshold=0.5,  # MMSegmentation's default for one channel is 0.3
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg_aml.BinaryCrossEntropy'),
    ),
)
