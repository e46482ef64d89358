_base_ = [
    '../_base_/models/detris_dinov2-l.py',
    '../_base_/datasets/refcoco-mixed-letterbox_448x448.py',
    '../_base_/schedules/detris_50e.py',
    '../_base_/default_runtime.py',
]

# Published for the mixture: adapters in all layers but the first, three times as wide in DINOv2.
model = dict(
    backbone=dict(adapter_layers=tuple(range(1, 24)), adapter_channels=384),
    text_encoder=dict(max_length=22, adapter_layers=tuple(range(1, 12)), adapter_channels=384),
)
