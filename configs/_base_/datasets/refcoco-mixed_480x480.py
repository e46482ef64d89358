# RefCOCO, RefCOCO+ and RefCOCOg (umd) together at 480 x 480, sentences as written ("raw");
# see refcoco-mixed_448x448.py.
_base_ = './refcoco_480x480.py'

import os

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmseg_aml.MixedRefDataset',
        data_root=os.environ.get('REFER_ROOT', 'data/refer'),
        text='raw',
        pipeline=[
            dict(type='mmseg_aml.LoadRefImage'),
            dict(type='mmseg_aml.LoadRefMasks'),
            dict(type='mmseg_aml.ResizeRIS', size=(480, 480)),
            dict(type='mmseg_aml.PackRISInputs'),
        ],
    )
)
