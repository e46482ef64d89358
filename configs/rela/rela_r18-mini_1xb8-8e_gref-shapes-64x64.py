_base_ = [
    '../_base_/models/rela_r18-mini.py',
    '../_base_/datasets/gref_shapes.py',
    '../_base_/schedules/ref_shapes_8e.py',
    '../_base_/default_runtime.py',
]

val_evaluator = dict(area_threshold=None)  # the model decides whether there is a target
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best='gres/original/gIoU'))
