# Trains a small net from scratch on RefShapes: a high rate for the convolutions, half of it
# for text and fusion, one cycle.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(text_encoder=dict(lr_mult=0.5), fusion=dict(lr_mult=0.5))),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=240, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=0,
        begin=0,
        end=8,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=8, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
