# Photographs of one's own or of COCO with sentences of coco_to_refer, in REFER layout; what
# docs/photos.md was measured on is made by `benchmarks/photos.py data`. Set PHOTOS_ROOT to its
# folder. The views of a photograph are finite (3 windows, mirrored or not), so that a frozen
# tower computes each of them once.
_base_ = []  # first, or MMEngine takes a file with imports for another kind of config

import os

dataset_type = 'mmseg_aml.RefCOCODataset'
data_root = os.environ.get('PHOTOS_ROOT', 'data/photos')
size = (384, 384)  # height, width

train_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.RandomWindow', windows=3),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='RandomFlip', prob=0.5),  # exchanges left and right in the sentences
    dict(type='mmseg_aml.PackRISInputs'),
]
test_pipeline = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=size),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='mmseg_aml.RefSampler', shuffle=True),
    dataset=dict(
        sampling='image',  # sentences of one image share a vision pass, and contrast
        num_expressions=6,
        split='train',
        pipeline=train_pipeline,
        type=dataset_type,
        data_root=data_root,
        dataset='photos',
        image_dir='images',
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='photos',
        image_dir='images',
        split='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='photos',
        image_dir='images',
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='mmseg_aml.RISMetric', protocols=['original'])
test_evaluator = val_evaluator
