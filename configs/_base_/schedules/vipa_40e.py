# VIPA's recipe is not published. This is that of CrossVLT (IEEE TMM 2024), an earlier open work
# of its first authors: AdamW at 3e-5 for all parts, polynomial decay by iteration, 40 epochs;
# norms and position tables are not decayed. The rates are for 2 GPUs x 6 images.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmseg_aml.RISOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=3e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        rules=[
            dict(
                name='no_decay',
                pattern=r'[Nn]orm|\.bn\.|relative_position_bias_table',
                decay_mult=0.0,
            ),
            dict(name='rest', pattern=r''),
        ]
    ),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, begin=0, end=40, by_epoch=True, convert_to_iter_based=True)
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=12)  # 2 GPUs x 6 images
