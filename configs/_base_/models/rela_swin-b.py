# ReLA (https://arxiv.org/abs/2306.00968): Swin-B and BERT, pixel-word attention on every level,
# and 10 x 10 regions that read pixels and words.
#
# The release also lets the words into the tower, through gates that its recipe never opens:
# this is the same network, and the tower runs once per image. For gates that learn, use
# backbone=dict(type='mmseg_aml.LAVTSwinTransformer') and fusion=None.
model = dict(
    type='mmseg_aml.TextImageSegmentor',
    data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor', size_divisor=32),
    backbone=dict(
        type='mmseg_aml.SwinTransformer',
        embed_dims=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=12,
        drop_path_rate=0.3,
        norm_outputs=False,
        # ImageNet-22k at 384, from https://github.com/microsoft/Swin-Transformer
        init_cfg=dict(
            type='Pretrained', checkpoint='pretrained/swin_base_patch4_window12_384_22k.pth'
        ),
    ),
    text_encoder=dict(type='mmseg_aml.HFTextEncoder', name='bert-base-uncased', max_length=20),
    fusion=dict(type='mmseg_aml.PWAMFusion', in_channels=(128, 256, 512, 1024), text_channels=768),
    decode_head=dict(type='mmseg_aml.ReLAHead', in_channels=(128, 256, 512, 1024)),
)
