"""Transforms of an item."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmseg_aml.datasets.refer import ReferError
from mmseg_aml.datasets.transforms.formatting import PackRISInputs
from mmseg_aml.datasets.transforms.loading import LoadRefImage, LoadRefMasks
from mmseg_aml.datasets.transforms.resize import ResizeRIS, resize_bilinear, resize_nearest


def item(height, width, *segmentations, **extra):
    return dict(
        img_path='a.png',
        image_id=7,
        height=height,
        width=width,
        dataset='refcoco',
        split='val',
        expressions=[
            dict(expression=f'no {i}', ref_id=i, sent_id=i, ann_ids=[i], segmentation=s)
            for i, s in enumerate(segmentations)
        ],
        **extra,
    )


def run(results, *transforms):
    for transform in transforms:
        results = transform(results)
    return results


SQUARE = [[[1, 1, 3, 1, 3, 3, 1, 3]]]


@pytest.mark.parametrize('old, new', [((7, 5), (3, 9)), ((480, 640), (448, 448)), ((1, 1), (4, 4))])
def test_nearest_is_pils(old, new):
    masks = np.random.default_rng(0).integers(0, 2, (3, *old), dtype=np.uint8)
    expected = [Image.fromarray(m).resize(new[::-1], Image.Resampling.NEAREST) for m in masks]
    np.testing.assert_array_equal(resize_nearest(masks, new), np.stack(expected))


@pytest.mark.parametrize(
    'old, new', [((97, 55), (33, 99)), ((480, 640), (448, 448)), ((1, 1), (4, 4))]
)
def test_bilinear_is_pils(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    expected = Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR)
    resized = resize_bilinear(image, new)
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized.astype(int), np.array(expected).astype(int), atol=1)


def test_a_resized_image_is_packed_without_a_copy():
    resized = resize_bilinear(np.zeros((20, 30, 3), dtype=np.uint8), (10, 12))
    assert resized.transpose(2, 0, 1).flags.c_contiguous


@pytest.mark.parametrize('mode', ['L', 'P', 'RGBA', 'CMYK', 'RGB'])
def test_image_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ('a.tiff' if mode == 'CMYK' else 'a.png')
    Image.new('RGB', (5, 4), (200, 0, 0)).convert(mode).save(path)
    results = LoadRefImage()(dict(img_path=str(path)))
    assert results['img'].shape == (4, 5, 3) and results['img'].dtype == np.uint8
    assert results['ori_shape'] == (4, 5)


def test_annotated_pixels_are_not_turned(tmp_path):
    image = Image.new('RGB', (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / 'a.jpg', exif=exif)
    for size in ((4, 6), (6, 4)):  # as stored, and as a viewer shows it
        results = dict(img_path=str(tmp_path / 'a.jpg'), height=size[0], width=size[1])
        assert LoadRefImage()(results)['ori_shape'] == size


def test_ready_array_is_taken_and_checked():
    image = np.zeros((4, 5, 3), np.uint8)
    assert LoadRefImage()(dict(img=image))['img'] is image
    with pytest.raises(ValueError, match=r'uint8 of shape \(H, W, 3\), got float64 \(4, 5\)'):
        LoadRefImage()(dict(img=np.zeros((4, 5))))


def test_masks(tmp_path):
    results = LoadRefMasks()(item(4, 6, SQUARE, [], SQUARE + [[[4, 0, 6, 0, 6, 4, 4, 4]]]))
    masks = results['gt_masks']
    assert masks.shape == (3, 4, 6) and masks.dtype == np.uint8
    assert masks.sum((1, 2)).tolist() == [4, 0, 12]
    np.testing.assert_array_equal(masks[0, 1:3, 1:3], 1)


def test_masks_refuse_empty_target_and_other_photograph():
    outside = [[[10, 10, 12, 10, 12, 12, 10, 12]]]
    with pytest.raises(ReferError, match=r'mask of ref 1 \(annotation 1, .*image 7'):
        LoadRefMasks()(item(4, 6, SQUARE, [[[2, 2, 2, 2, 2, 2]]]))
    results = item(4, 6, outside, img=np.zeros((6, 4, 3), np.uint8))
    with pytest.raises(ReferError, match=r'a.png is of size \(6, 4\).*say \(4, 6\)'):
        run(results, LoadRefImage(), LoadRefMasks())


def test_train_and_test_order():
    def fresh():
        return item(4, 6, SQUARE, [], img=np.zeros((4, 6, 3), np.uint8))

    resize, masks, pack = ResizeRIS((8, 8)), LoadRefMasks(), PackRISInputs()
    train = run(fresh(), LoadRefImage(), masks, resize, pack)
    test = run(fresh(), LoadRefImage(), resize, masks, pack)
    assert train['inputs'].shape == test['inputs'].shape == (3, 8, 8)
    assert train['inputs'].dtype == torch.uint8
    for packed, shape in ((train, (8, 8)), (test, (4, 6))):
        first, second = packed['data_samples'].samples
        assert first.gt_sem_seg.data.shape == (1, *shape)
        assert first.gt_sem_seg.data.dtype == torch.uint8
        assert (first.no_target, second.no_target) == (False, True)
        assert (first.expression, first.ref_id, first.ann_ids) == ('no 0', 0, [0])
        assert first.ori_shape == (4, 6) and first.img_shape == first.pad_shape == (8, 8)
        assert first.scale_factor == (8 / 6, 2.0)
        assert first.image_id == second.image_id == 7


def test_inferencer_needs_no_annotation():
    results = dict(img=np.zeros((4, 6, 3), np.uint8), expressions=[dict(expression='a cat')])
    packed = run(results, LoadRefImage(), ResizeRIS((2, 2)), PackRISInputs())
    (sample,) = packed['data_samples'].samples
    assert sample.expression == 'a cat' and 'gt_sem_seg' not in sample and 'ref_id' not in sample


@pytest.mark.parametrize(
    'old, new', [((100, 50), (64, 32)), ((50, 100), (32, 64)), ((1, 900), (1, 64))]
)
def test_keep_ratio_fits(old, new):
    results = run(dict(img=np.zeros((*old, 3), np.uint8)), ResizeRIS((64, 64), keep_ratio=True))
    assert results['img'].shape == (*new, 3) == (*results['img_shape'], 3)


@pytest.mark.parametrize('shape', [(1, 1), (6000, 8000), (1, 3000)])
def test_extreme_sizes(tmp_path, shape):
    height, width = shape
    Image.new('RGB', (width, height), (9, 9, 9)).save(tmp_path / 'a.png', compress_level=0)
    whole = [[[0, 0, width, 0, width, height, 0, height]]]
    results = item(height, width, whole)
    results['img_path'] = str(tmp_path / 'a.png')
    packed = run(results, LoadRefImage(), LoadRefMasks(), ResizeRIS((32, 32)), PackRISInputs())
    (sample,) = packed['data_samples'].samples
    assert packed['inputs'].shape == (3, 32, 32) and packed['inputs'].unique().tolist() == [9]
    assert sample.gt_sem_seg.data.sum() == 32 * 32 and sample.ori_shape == shape


def test_size_is_checked():
    with pytest.raises(ValueError, match='positive'):
        ResizeRIS((0, 4))
