# Generalised segmentation with a plain head: a small head beside it decides whether there is a
# target at all.
_base_ = [
    '../_base_/models/segformer_mit-b2.py',
    '../_base_/datasets/grefcoco_480x480.py',
    '../_base_/schedules/caris_50e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    no_target_head=dict(
        type='mmseg_aml.NoTargetHead', in_channels=512, text_channels=768, channels=256
    )
)
val_evaluator = dict(area_threshold=None)  # the model decides
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='gres/original/gIoU'))
