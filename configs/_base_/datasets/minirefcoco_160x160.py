# minirefcoco at a size that trains on a CPU; see minirefcoco_448x448.py.
_base_ = './minirefcoco_448x448.py'

size = (160, 160)  # height, width
train_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='mmseg_aml.PackRISInputs'),
]
test_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(protocols=['original'])
test_evaluator = dict(protocols=['original'])
