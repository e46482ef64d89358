# RefShapes: synthetic scenes with unique expressions, exported in REFER layout by
# tools/dataset_converters/ref_shapes.py. Small pictures, so that a model trains on two CPU
# cores. testB holds colour-shape pairs that training has not seen.
_base_ = []  # first, or MMEngine takes a file with imports for another kind of config

import os

dataset_type = 'mmseg_aml.RefCOCODataset'
data_root = os.environ.get('REF_SHAPES_ROOT', 'data/ref_shapes')
size = (64, 64)  # height, width

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

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,  # as CARIS; and batch norm cannot learn from a last batch of one
    sampler=dict(type='mmseg_aml.RefSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refshapes',
        split='train',
        sampling='image',  # sentences of one image share a vision pass, and contrast
        num_expressions=9,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refshapes',
        split='val',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        dataset='refshapes',
        split='testA',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='mmseg_aml.RISMetric', protocols=['original'])
test_evaluator = val_evaluator
