_base_ = [
    '../_base_/models/upernet_dinov2-b.py',
    '../_base_/datasets/refcoco_448x448.py',
    '../_base_/schedules/caris_50e.py',
    '../_base_/default_runtime.py',
]

# Text as in CARIS; the tower at the full rate with layer decay 0.7, as ViTDet's ViT-B
# (arXiv 2203.16527, appendix).
optim_wrapper = dict(
    paramwise_cfg=dict(
        rules=[
            dict(
                name='text_no_decay',
                pattern=r'^text_encoder\..*(Norm|embeddings)',
                lr_mult=0.1,
                decay_mult=0.0,
            ),
            dict(name='text', pattern=r'^text_encoder\.', lr_mult=0.1),
            dict(
                name='vision_no_decay',
                pattern=r'^backbone\..*(norm|embeddings)',
                decay_mult=0.0,
                layer_decay=0.7,
            ),
            dict(name='vision', pattern=r'^backbone\.', layer_decay=0.7),
            dict(name='rest_no_decay', pattern=r'[Nn]orm', decay_mult=0.0),
            dict(name='rest', pattern=r''),
        ]
    )
)
