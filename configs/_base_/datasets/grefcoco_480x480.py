# gRefCOCO at 480 x 480, as ReLA reads it: one sentence, as written, is one training item.
_base_ = './refcoco_480x480.py'

dataset_type = 'mmseg_aml.GRefCOCODataset'
train_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefcoco', sampling='sentence'))
val_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefcoco'))
test_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefcoco'))
val_evaluator = dict(
    _delete_=True, type='mmseg_aml.GRESMetric', protocols=['original', 'rela-480'], area_threshold=50
)
test_evaluator = val_evaluator
