# DETRIS-B (https://arxiv.org/abs/2501.08580): a frozen DINOv2 (B/14, 4 registers) whose adapters
# read the words, CLIP's frozen text tower with adapters, and CRIS' neck, decoder and dynamic
# kernel. 175.5 M parameters, of which 25.5 M learn: 2.7 M in adapters, 22.8 M in the head.
# Patches and the blocks before the first adapter run once per image.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(
        type='mmseg_aml.TextImageDataPreprocessor',
        # CLIP's, for DINOv2 too
        mean=(255 * 0.48145466, 255 * 0.4578275, 255 * 0.40821073),
        std=(255 * 0.26862954, 255 * 0.26130258, 255 * 0.27577711),
    ),
    backbone=dict(
        type='mmseg_aml.DETRISDINOv2',
        embed_dims=768,
        depth=12,
        num_heads=12,
        taps=(4, 8),
        adapter_layers=(1, 3, 5, 7, 9, 11),
        adapter_channels=128,
        # from https://github.com/facebookresearch/dinov2
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrained/dinov2_vitb14_reg4_pretrain.pth'
        ),
    ),
    text_encoder=dict(
        type='mmseg_aml.DETRISTextEncoder',
        name='openai/clip-vit-base-patch16',
        max_length=17,  # 22 for RefCOCOg
        adapter_layers=(1, 3, 5, 7, 9, 11),
        adapter_channels=64,
    ),
    decode_head=dict(
        type='mmseg_aml.DETRISHead',
        in_channels=(768, 768, 768),
        channels=512,
        num_layers=3,
        num_heads=8,
        ffn_channels=512,
        dropout=0.1,
        projector_channels=256,
    ),
)
sync_bn = 'torch'  # batch norms, also those of the adapters, over all GPUs
