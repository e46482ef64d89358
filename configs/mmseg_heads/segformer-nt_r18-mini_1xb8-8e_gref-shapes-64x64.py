# A plain head, and a small head beside it that decides whether there is a target at all.
_base_ = [
    '../_base_/models/segformer_r18-mini.py',
    '../_base_/datasets/gref_shapes.py',
    '../_base_/schedules/ref_shapes_8e.py',
    '../_base_/default_runtime.py',
]

# One sentence of six has no target: unweighted, 800 steps end with "there is one" for all.
model = dict(
    no_target_head=dict(
        type='mmseg_aml.NoTargetHead',
        in_channels=96,
        text_channels=96,
        loss=dict(type='mmseg_aml.WeightedCrossEntropy', class_weight=(1.0, 3.0)),
    )
)
val_evaluator = dict(area_threshold=None)  # the model decides whether there is a target
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='gres/original/gIoU'))
