# CARIS: AdamW, 50 epochs, the pretrained towers at a tenth of the rate, gradient norm <= 1.
# Published with fp16: train with --amp. The rates are for 2 GPUs x 8 images.
#
# Six groups: norms, tables, embeddings and prompts are not decayed; GroupNorm, biases,
# gammas and the level encoding are. Prompts learn at the full rate.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmseg_aml.RISOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        rules=[
            dict(
                name='text_no_decay',
                pattern=r'^text_encoder\.model\..*(Norm|embeddings)',
                lr_mult=0.1,
                decay_mult=0.0,
            ),
            dict(name='text', pattern=r'^text_encoder\.model\.', lr_mult=0.1),
            dict(
                name='vision_no_decay',
                pattern=r'^backbone\..*(norm|absolute_pos_embed|relative_position_bias_table)',
                lr_mult=0.1,
                decay_mult=0.0,
            ),
            dict(name='vision', pattern=r'^backbone\.', lr_mult=0.1),
            dict(name='rest_no_decay', pattern=r'[Nn]orm|_prompts', decay_mult=0.0),
            dict(name='rest', pattern=r''),
        ]
    ),
)
param_scheduler = [  # both factors act together, so the rate has no jump
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=0.9, begin=0, end=50, by_epoch=True, convert_to_iter_based=True),
]

# Every 10 epochs, and each of the last 16.
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs=50, val_interval=10, dynamic_intervals=[(36, 1)]
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)  # 2 GPUs x 8 images
