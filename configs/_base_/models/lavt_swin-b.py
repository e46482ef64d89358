# LAVT (https://arxiv.org/abs/2112.02244): Swin-B that reads BERT's words after every stage.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='mmseg_aml.LAVTSwinTransformer',
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=12,
        drop_path_rate=0.3,
        fusion_heads=(1, 1, 1, 1),
        text_channels=768,
        # ImageNet-22k at 384, from https://github.com/microsoft/Swin-Transformer
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrained/swin_base_patch4_window12_384_22k.pth'
        ),
    ),
    text_encoder=dict(type='mmseg_aml.HFTextEncoder', name='bert-base-uncased', max_length=20),
    decode_head=dict(
        type='mmseg_aml.LAVTHead',
        in_channels=(128, 256, 512, 1024),
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        loss_decode=dict(type='mmseg_aml.WeightedCrossEntropy', class_weight=(0.9, 1.1)),
    ),
)
