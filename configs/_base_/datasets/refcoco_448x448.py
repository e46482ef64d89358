# RefCOCO (unc) at 448 x 448, as CARIS, MaskRIS and AMLRIS read it: squashed, cleaned
# sentences, one random sentence per ref each epoch.
#
# data_root holds the REFER layout, {refcoco,refcoco+,refcocog}/{refs(*).p,instances.json}
# and images/train2014/. Set the environment variable REFER_ROOT, or
# --cfg-options {train,val,test}_dataloader.dataset.data_root=DIR; image_dir=DIR where the
# images lie elsewhere.
_base_ = []  # first, or MMEngine takes a file with imports for another kind of config

import os

dataset_type = 'mmseg_aml.RefCOCODataset'
data_root = os.environ.get('REFER_ROOT', 'data/refer')
size = (448, 448)  # height, width

train_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='mmseg_aml.PackRISInputs'),
]
test_pipeline = [  # masks after the resize: the ground truth stays at the original size
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,  # as CARIS; and batch norm cannot learn from a last batch of one
    sampler=dict(type='mmseg_aml.RefSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refcoco',
        split='train',
        pipeline=train_pipeline,
    ),
)
# One image with all its sentences at a time: its vision features are computed once.
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refcoco',
        split='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refcoco',
        split='testA',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='mmseg_aml.RISMetric', protocols=['original', 'resized-448'])
test_evaluator = val_evaluator
