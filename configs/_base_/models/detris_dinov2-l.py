# DETRIS-L: DINOv2 L/14 with aligners in every fourth block; 26.3 M parameters learn.
_base_ = './detris_dinov2-b.py'

model = dict(
    backbone=dict(
        embed_dims=1024,
        depth=24,
        num_heads=16,
        taps=(8, 16),
        adapter_layers=(2, 6, 10, 14, 18, 22),
        init_cfg=dict(checkpoint='pretrained/dinov2_vitl14_reg4_pretrain.pth'),
    ),
    decode_head=dict(in_channels=(1024, 1024, 1024)),
)
