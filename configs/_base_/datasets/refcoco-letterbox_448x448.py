# RefCOCO (unc) letterboxed to 448 x 448, as DETRIS reads it: cleaned sentences, soft masks.
_base_ = './refcoco_448x448.py'

size = (448, 448)  # height, width
train_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.Letterbox', size=size),
    dict(type='mmseg_aml.PackRISInputs'),
]
test_pipeline = [  # masks after the letterbox: the ground truth stays at the original size
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.Letterbox', size=size),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]

train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(protocols=['original', 'cris-original'])
test_evaluator = val_evaluator
