_base_ = [
    '../_base_/models/segformer_r18-mini.py',
    '../_base_/datasets/minirefcoco_160x160.py',
    '../_base_/schedules/ref_shapes_8e.py',
    '../_base_/default_runtime.py',
]
