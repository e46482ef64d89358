_base_ = [
    '../_base_/models/lavt_swin-b.py',
    '../_base_/datasets/refcoco-mixed_480x480.py',
    '../_base_/schedules/lavt_40e.py',
    '../_base_/default_runtime.py',
]
