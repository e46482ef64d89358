_base_ = [
    '../_base_/models/segformer_mit-b2.py',
    '../_base_/datasets/refcoco_448x448.py',
    '../_base_/schedules/caris_50e.py',
    '../_base_/default_runtime.py',
]
