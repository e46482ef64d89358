_base_ = [
    '../_base_/models/detris_dinov2-l.py',
    '../_base_/datasets/refcocog-umd-letterbox_448x448.py',
    '../_base_/schedules/detris_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(text_encoder=dict(max_length=22))  # longer sentences
