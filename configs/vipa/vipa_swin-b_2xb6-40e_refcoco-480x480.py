_base_ = [
    '../_base_/models/vipa_swin-b.py',
    '../_base_/datasets/refcoco_480x480.py',
    '../_base_/schedules/vipa_40e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=6)
