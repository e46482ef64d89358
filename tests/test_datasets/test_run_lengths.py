"""Damaged run lengths are found and named, in a training with SkipFaults too."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError
from mmseg_aml.datasets.run_lengths import check_run_lengths, decompress
from mmseg_aml.datasets.skip_faults import SkipFaults

PIPELINE = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]


@pytest.mark.parametrize('seed', range(6))
def test_equals_the_masks_runs(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 90, 2)
    mask = np.asfortranarray(rng.random(size) < rng.choice([0.0, 0.01, 0.5, 1.0]), np.uint8)
    rle = coco_mask.encode(mask)
    check_run_lengths(rle)
    check_run_lengths({**rle, 'counts': rle['counts'].decode()})
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    assert decompress(rle['counts']).tolist() == [0] * int(flat[0]) + runs


@pytest.mark.parametrize('counts', ['01:00', 'abc', 'zzzz', '', 'P', '\xff'])
def test_damaged(refer, counts):
    refer.instances['annotations'][1]['segmentation'] = {'size': [10, 20], 'counts': counts}
    data = RefCOCODataset(str(refer.write()), pipeline=PIPELINE)
    with pytest.raises(ReferError, match=r'mask of ref 12 \(annotation 101, .*image 1\) cannot'):
        data[2]
    skipping = SkipFaults(data)
    assert skipping[2]['data_samples'].samples[0].ref_id == 10
    assert 'annotation 101' in skipping.faults()[2]


@pytest.mark.parametrize('counts', [[20, 5], [200, -5, 5]])
def test_damaged_lists(counts):
    with pytest.raises(ValueError, match='run lengths cover .* has 10 x 20'):
        check_run_lengths({'size': [10, 20], 'counts': counts})
