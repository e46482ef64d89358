# RefCOCOg, Google's split by object: train and val share images; there is no test split.
_base_ = './refcoco-letterbox_448x448.py'

train_dataloader = dict(dataset=dict(dataset='refcocog', split_by='google'))
val_dataloader = dict(dataset=dict(dataset='refcocog', split_by='google'))
test_dataloader = dict(dataset=dict(dataset='refcocog', split_by='google', split='val'))
