import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_aml.evaluation import get_protocol
from mmseg_aml.evaluation.masks import (
    binary_prediction,
    encode_masks,
    intersection_and_union,
    rasterise,
    resize_nearest,
)

sides = st.integers(1, 700)


@settings(max_examples=40, deadline=None)
@given(sides, sides, sides, sides)
def test_nearest_is_pils(height, width, new_height, new_width):
    rng = np.random.default_rng(height * width)
    mask = rng.integers(0, 2, (height, width), dtype=np.uint8)
    expected = np.asarray(
        Image.fromarray(mask).resize((new_width, new_height), Image.Resampling.NEAREST)
    )
    resized = resize_nearest(torch.from_numpy(mask)[None], (new_height, new_width))
    assert np.array_equal(resized[0].numpy(), expected)


@pytest.mark.parametrize('size', [(480, 640), (427, 640), (333, 500)])
def test_nearest_at_published_size(size):
    mask = np.random.default_rng(0).integers(0, 2, size, dtype=np.uint8)
    expected = np.asarray(Image.fromarray(mask).resize((448, 448), Image.Resampling.NEAREST))
    assert np.array_equal(resize_nearest(torch.from_numpy(mask)[None], (448, 448))[0], expected)


@pytest.mark.parametrize('name', ['original', 'resized-448', 'cris-original', 'lisa-original'])
def test_one_channel_equals_two(name):
    """A sigmoid of x and a softmax of (0, x) are the same prediction."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(3, 1, 9, 7, generator=generator)
    two = torch.cat([torch.zeros_like(one), one], 1)
    protocol = get_protocol(name)
    size = protocol.size((20, 30))
    assert torch.equal(
        binary_prediction(one, size, protocol), binary_prediction(two, size, protocol)
    )


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match=r'C = 1 \(sigmoid\) or 2'):
        binary_prediction(torch.zeros(1, 3, 4, 4), (4, 4), get_protocol('original'))


def test_rasterise_unites_polygons_and_runs():
    rle = coco_mask.encode(np.asfortranarray(np.eye(6, dtype=np.uint8)))
    polygon = [[0, 0, 3, 0, 3, 6, 0, 6]]
    runs = {'size': [6, 6], 'counts': [30, 6]}
    mask = rasterise([polygon, rle, runs], (6, 6), (6, 6))
    expected = np.eye(6, dtype=bool)
    expected[:, :3] = True
    expected[:, 5] = True
    assert np.array_equal(mask.numpy(), expected)
    assert rasterise([rle], (6, 6), (12, 12)).sum() == 24
    assert not rasterise([], (6, 6), (12, 12)).any()


def test_overlap_and_codes():
    first = torch.zeros(2, 5, 7, dtype=torch.bool)
    first[0, :2] = True
    second = torch.zeros_like(first)
    second[0, 1:3] = True
    assert intersection_and_union(first, second).tolist() == [[7, 21], [0, 0]]
    rles = encode_masks(first)
    assert rles[0]['size'] == [5, 7]
    assert np.array_equal(coco_mask.decode(rles[0]), first[0].numpy())
