_base_ = './upernet_dinov2-b_2xb8-50e_refcoco-448x448.py'

# 0.6 M of the tower's 87 M weights train, at the full rate; checkpoints hold no others of it.
# Names of the layers: transformers 4 and 5.
model = dict(
    backbone=dict(
        drop_path_rate=0.0,
        adapter=dict(
            type='lora',
            r=16,
            lora_alpha=32,
            lora_dropout=0.05,
            targets=r'.*\.(query|value|q_proj|v_proj)',
            save_base=False,
        ),
    )
)
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
            dict(name='rest_no_decay', pattern=r'[Nn]orm|lora_', decay_mult=0.0),
            dict(name='rest', pattern=r''),
        ]
    )
)
