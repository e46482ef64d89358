_base_ = [
    '../_base_/models/rela_swin-b.py',
    '../_base_/datasets/refcoco+_480x480.py',
    '../_base_/schedules/rela_150k.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=12, dataset=dict(sampling='sentence'))
# Everything counts updates.
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000), logger=dict(log_metric_by_epoch=False)
)
log_processor = dict(by_epoch=False)
