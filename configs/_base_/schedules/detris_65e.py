# DETRIS-B: Adam, 65 epochs, adapters and head at 1e-4, towers frozen, no weight decay, no
# warm-up, no clipping. Published with fp16: train with --amp. The rates are for 2 GPUs x 16 images.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmseg_aml.RISOptimWrapperConstructor',
    optimizer=dict(type='Adam', lr=1e-4, weight_decay=0.0),
    paramwise_cfg=dict(
        rules=[
            dict(name='adapters', pattern=r'\.adapter\.'),
            dict(name='head', pattern=r'^decode_head\.'),
        ]
    ),
)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=65, milestones=[35, 55], gamma=0.1)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=65, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)  # 2 GPUs x 16 images
