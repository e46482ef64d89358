_base_ = [
    '../_base_/models/vipa_r18-mini.py',
    '../_base_/datasets/ref_shapes_96x96.py',
    '../_base_/schedules/ref_shapes_4e.py',
    '../_base_/default_runtime.py',
]
