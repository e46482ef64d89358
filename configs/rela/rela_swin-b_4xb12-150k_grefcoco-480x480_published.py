# ReLA as released, oddities included: use it to compare with published numbers.
_base_ = [
    '../_base_/models/rela_swin-b.py',
    '../_base_/datasets/grefcoco_480x480.py',
    '../_base_/schedules/rela_150k_published.py',
    '../_base_/default_runtime.py',
]

model = dict(text_encoder=dict(truncation='cut'))  # a long sentence loses its [SEP]
train_dataloader = dict(batch_size=12)
val_evaluator = dict(area_threshold=None)  # the model decides whether there is a target
test_evaluator = val_evaluator
# Everything counts updates. The best gIoU on squashed 480 x 480 masks is kept.
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=5000, save_best='gres/rela-480/gIoU'),
    logger=dict(log_metric_by_epoch=False),
)
log_processor = dict(by_epoch=False)
