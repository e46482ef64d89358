_base_ = [
    '../_base_/models/rela_swin-b.py',
    '../_base_/datasets/grefcoco_480x480.py',
    '../_base_/schedules/rela_150k.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=12)
val_evaluator = dict(area_threshold=None)  # the model decides whether there is a target
test_evaluator = val_evaluator
# Everything counts updates.
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000, save_best='gres/original/gIoU'),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
