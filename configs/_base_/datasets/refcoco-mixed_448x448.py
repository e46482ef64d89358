# RefCOCO, RefCOCO+ and RefCOCOg (umd) together, without any image of their val and test
# splits; evaluated on RefCOCO (others: --cfg-options test_dataloader.dataset.dataset=refcoco+).
_base_ = './refcoco_448x448.py'

import os

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmseg_aml.MixedRefDataset',
        data_root=os.environ.get('REFER_ROOT', 'data/refer'),
        pipeline=[
            dict(type='mmseg_aml.LoadRefImage'),
            dict(type='mmseg_aml.LoadRefMasks'),
            dict(type='mmseg_aml.ResizeRIS', size=(448, 448)),
            dict(type='mmseg_aml.PackRISInputs'),
        ],
    )
)
