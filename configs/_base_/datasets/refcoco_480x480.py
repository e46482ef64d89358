# RefCOCO (unc) at 480 x 480, as LAVT, MagNet and ReLA read it: sentences as written ("raw").
_base_ = './refcoco_448x448.py'

size = (480, 480)
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

train_dataloader = dict(dataset=dict(text='raw', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(text='raw', pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(text='raw', pipeline=test_pipeline))
val_evaluator = dict(protocols=['original', 'resized-480'])
test_evaluator = val_evaluator
