# RefShapes with sentences about one shape, several or none:
# tools/dataset_converters/ref_shapes.py --generalised
_base_ = './ref_shapes.py'

dataset_type = 'mmseg_aml.GRefCOCODataset'
train_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefshapes'))
val_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefshapes'))
test_dataloader = dict(dataset=dict(type=dataset_type, dataset='grefshapes'))
val_evaluator = dict(_delete_=True, type='mmseg_aml.GRESMetric', protocols=['original'])
test_evaluator = val_evaluator
