# RefCOCO+ (unc): no words of absolute position.
_base_ = './refcoco-letterbox_448x448.py'

train_dataloader = dict(dataset=dict(dataset='refcoco+'))
val_dataloader = dict(dataset=dict(dataset='refcoco+'))
test_dataloader = dict(dataset=dict(dataset='refcoco+'))
