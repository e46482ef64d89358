# As ref_shapes_8e.py, in 800 updates: 4 epochs of 1600 scenes, 8 an update.
_base_ = './ref_shapes_8e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=60, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        eta_min=0,
        begin=0,
        end=4,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=4)
