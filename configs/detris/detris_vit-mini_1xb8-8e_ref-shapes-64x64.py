_base_ = [
    '../_base_/models/detris_vit-mini.py',
    '../_base_/datasets/ref_shapes.py',
    '../_base_/schedules/ref_shapes_transformer_8e.py',
    '../_base_/default_runtime.py',
]
