# LAVT as released, oddities included: use it to compare with published numbers.
_base_ = [
    '../_base_/models/lavt_swin-b.py',
    '../_base_/datasets/refcoco_480x480.py',
    '../_base_/schedules/lavt_40e_published.py',
    '../_base_/default_runtime.py',
]

model = dict(text_encoder=dict(truncation='cut'))  # a long sentence loses its [SEP]

# Where polygons of one object overlap, the released evaluation sees background.
test_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=(480, 480)),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs', with_segmentation=True),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(
    protocols=[
        'original',
        'resized-480',
        dict(name='lavt-480', base='resized-480', overlap='lavt-exclusive'),
    ]
)
test_evaluator = val_evaluator
# The best oIoU on the squashed 480 x 480 masks is kept.
default_hooks = dict(checkpoint=dict(save_best='ris/lavt-480/oIoU'))
