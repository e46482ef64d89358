# LAVT: AdamW, 40 epochs, one rate for everything, polynomial decay by iteration, fp32.
# Norms and position tables of the image tower are not decayed; the decoder's BN and BERT's
# LayerNorm are. The rates are for 4 GPUs x 8 images.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmseg_aml.RISOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        rules=[
            dict(
                name='vision_no_decay',
                pattern=r'^backbone\..*(norm|absolute_pos_embed|relative_position_bias_table)',
                decay_mult=0.0,
            ),
            dict(name='vision', pattern=r'^backbone\.'),
            dict(name='decoder', pattern=r'^decode_head\.'),
            dict(name='text', pattern=r'^text_encoder\.'),
        ]
    ),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, begin=0, end=40, by_epoch=True, convert_to_iter_based=True)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 4 GPUs x 8 images
