_base_ = [
    '../_base_/models/detris_dinov2-b.py',
    '../_base_/datasets/refcoco-letterbox_448x448.py',
    '../_base_/schedules/detris_65e.py',
    '../_base_/default_runtime.py',
]
