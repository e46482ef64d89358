# RefCOCOg, split of UMD: longer sentences; train, val, test share no image.
_base_ = './refcoco-letterbox_448x448.py'

train_dataloader = dict(dataset=dict(dataset='refcocog', split_by='umd'))
val_dataloader = dict(dataset=dict(dataset='refcocog', split_by='umd'))
test_dataloader = dict(dataset=dict(dataset='refcocog', split_by='umd', split='test'))
