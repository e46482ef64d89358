_base_ = [
    '../_base_/models/rela_r18-mini.py',
    '../_base_/datasets/ref_shapes.py',
    '../_base_/schedules/ref_shapes_8e.py',
    '../_base_/default_runtime.py',
]
