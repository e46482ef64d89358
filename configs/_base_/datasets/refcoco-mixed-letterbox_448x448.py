# RefCOCO, RefCOCO+ and RefCOCOg (umd) together, without any image of their val and test
# splits (the published mixture keeps them); see refcoco-mixed_448x448.py.
_base_ = './refcoco-letterbox_448x448.py'

import os

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmseg_aml.MixedRefDataset',
        data_root=os.environ.get('REFER_ROOT', 'data/refer'),
        pipeline=[
            dict(type='mmseg_aml.LoadRefImage'),
            dict(type='mmseg_aml.LoadRefMasks'),
            dict(type='mmseg_aml.Letterbox', size=(448, 448)),
            dict(type='mmseg_aml.PackRISInputs'),
        ],
    )
)
