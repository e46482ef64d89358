# CARIS (https://doi.org/10.1145/3581783.3612117): Swin-B, BERT with prompts made from the
# picture, and a decoder in which vision and language update each other. 226.6M parameters;
# the image tower runs once per image, whatever the number of expressions.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
    backbone=dict(
        type='mmseg_aml.SwinTransformer',
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=7,
        drop_path_rate=0.3,
        # ImageNet-22k at 224, from https://github.com/microsoft/Swin-Transformer
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrained/swin_base_patch4_window7_224_22k.pth'
        ),
    ),
    text_encoder=dict(
        type='mmseg_aml.CARISTextEncoder',
        name='bert-base-uncased',
        max_length=20,
        visual_channels=1024,
        prompt_grids=(1, 2),  # 1 x 1 + 2 x 2 = 5 prompts
    ),
    decode_head=dict(
        type='mmseg_aml.CARISHead',
        in_channels=(128, 256, 512, 1024),
        channels=256,
        text_channels=768,
        num_layers=6,
        num_heads=8,
        num_points=4,
        expansion=4,
        num_prompts=5,
        loss_decode=dict(type='mmseg_aml.WeightedCrossEntropy', class_weight=(0.9, 1.1)),
    ),
)
