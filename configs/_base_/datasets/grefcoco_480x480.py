# gRefCOCO at 480 x 480, as ReLA reads it: one sentence, as written, is one training item.
_base_ = './refcoco_480x480.py'

dataset_type = 'mmseg_aml.GRefCOCODataset'
test_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=(480, 480)),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs', with_segmentation=True),  # rela-480 scales polygons
]
train_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefcoco', sampling='sentence'))
val_dataloader = dict(
    dataset=dict(type=dataset_type, dataset='grefcoco', pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(type=dataset_type, dataset='grefcoco', pipeline=test_pipeline)
)
val_evaluator = dict(
    _delete_=True, type='mmseg_aml.GRESMetric', protocols=['original', 'rela-480'], area_threshold=50
)
test_evaluator = val_evaluator
