"""Transforms of mmcv and MMSegmentation: picture, masks and sentence move together, or refusal."""

import mmcv.transforms  # noqa: F401  registers
import mmseg.datasets.transforms  # noqa: F401  registers
import numpy as np
import pytest
from mmcv.transforms import TRANSFORMS as MMCV
from mmcv.transforms import BaseTransform
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS as MMSEG

from mmseg_aml.datasets.transforms.formatting import PackRISInputs
from mmseg_aml.datasets.transforms.framework import KINDS, REFUSED, build_pipeline
from mmseg_aml.datasets.transforms.sides import exchange_sides
from mmseg_aml.datasets.transforms.together import from_label_map, to_label_map

# All settings of which a registered transform of some kind is tested.
MOVING = [
    dict(type='Resize', scale=(40, 56)),
    dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='Resize', scale_factor=1.5),
    dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomChoiceResize', scales=[(32, 32), (80, 60)], resize_type='Resize'),
    dict(type='ResizeShortestEdge', scale=48, max_size=200),
    dict(type='ResizeToMultiple', size_divisor=16),
    dict(type='CenterCrop', crop_size=(60, 60)),
    dict(type='CenterCrop', crop_size=(200, 200), auto_pad=True),
    dict(type='RandomCrop', crop_size=(50, 60)),
    dict(type='RandomCrop', crop_size=(50, 60), cat_max_ratio=0.75),
    dict(type='RandomRotate', prob=1.0, degree=30),
    dict(type='RandomRotate', prob=1.0, degree=15, auto_bound=True),
    dict(type='Pad', size=(400, 400)),
    dict(type='Pad', size_divisor=32),
    dict(type='RandomCutOut', prob=1.0, n_holes=2, cutout_ratio=(0.2, 0.2), seg_fill_in=0),
    dict(type='RandomFlip', prob=1.0),
    dict(type='RandomFlip', prob=[0.9], direction=['horizontal']),
    dict(type='RandomApply', transforms=[dict(type='RandomCrop', crop_size=(50, 60))], prob=1.0),
    dict(
        type='RandomChoice',
        transforms=[[dict(type='RandomFlip', prob=1.0)], [dict(type='Resize', scale=(40, 40))]],
    ),
    dict(type='Compose', transforms=[dict(type='Pad', size_divisor=32)]),
]
COLOURS = [
    dict(type='PhotoMetricDistortion'),
    dict(type='AdjustGamma', gamma=1.4),
    dict(type='CLAHE'),
    dict(type='RandomGrayscale', prob=1.0, keep_channels=True),
    dict(type='RGB2Gray', out_channels=3),
]
ONEDL = {'LoadImageFromNpyFile'}  # what its forks register beside the others
SIZES = [(96, 128), (7, 301), (301, 7), (1, 1)]


@pytest.fixture(autouse=True)
def scope():
    """As in a Runner, names are looked up in mmseg first, then in mmcv."""
    DefaultScope.get_instance('test', scope_name='mmseg')


def registered():
    """Name -> class, of all transforms that mmcv and mmseg register."""
    known = {**MMCV.module_dict, **MMSEG.module_dict}
    return {n: c for n, c in known.items() if c.__module__.split('.')[0] in ('mmcv', 'mmseg')}


def test_every_registered_transform_is_in_one_table():
    names = set(registered())
    assert names | ONEDL == set(KINDS) | set(REFUSED) and not set(KINDS) & set(REFUSED)
    assert {step['type'] for step in MOVING + COLOURS} == set(KINDS)


@pytest.mark.parametrize('name', sorted(set(REFUSED) & set(registered())))
def test_refused_when_the_pipeline_is_built(name):
    with pytest.raises(ValueError, match=f'{name} cannot be part of a RIS pipeline: .{{10}}'):
        build_pipeline([dict(type=registered()[name])])


def item(height, width, count=2, seed=0):
    """Red is the first mask, green the second, blue whether the pixel is of the picture."""
    masks = np.zeros((count, height, width), np.uint8)
    masks[0, height // 4 : height // 4 + max(1, height // 2), : max(1, width // 3)] = 1
    for mask in masks[1:]:
        mask[height // 3 : height // 3 + max(1, height // 2), width // 4 :] = 1
    image = np.full((height, width, 3), 255, np.uint8)
    image[..., :2] = masks[:2].transpose(1, 2, 0) * 255
    words = ['the red one on the LEFT', 'rightmost box'] + ['box'] * (count - 2)
    return dict(
        img=image,
        gt_masks=masks,
        img_shape=(height, width),
        ori_shape=(height, width),
        img_path='a.png',
        draw_seed=seed,
        expressions=[dict(expression=text, segmentation=[1]) for text in words],
    )


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('step', MOVING, ids=lambda step: step['type'])
def test_picture_and_masks_move_together(step, size):
    check_moved(step, size)


@pytest.mark.parametrize('step', MOVING, ids=lambda step: step['type'])
def test_mmcvs_own_classes_do_too(step):
    if step['type'] in MMCV.module_dict:
        check_moved({**step, 'type': MMCV.module_dict[step['type']]}, (96, 128))


def check_moved(step, size):
    for seed in range(2):
        found = build_pipeline([step])(item(*size, seed=seed))
        image, masks = found['img'], found['gt_masks']
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        assert image.shape[:2] == masks.shape[1:] == found['img_shape']
        assert set(np.unique(masks)) <= {0, 1, 255}
        picture = image[..., 2] > 127  # bilinear and nearest differ by a pixel along edges
        for mask, colour in zip(masks, (image[..., 0], image[..., 1])):
            agree = (mask == 1) == ((colour > 127) & picture)
            assert min(image.shape[:2]) < 30 or agree[mask != 255].mean() > 0.85
            # a target of few pixels can vanish where a whole picture shrinks, as in ResizeRIS
            assert (mask == 1).any() or min(image.shape[:2]) < min(size)
        again = build_pipeline([step])(item(*size, seed=seed))
        np.testing.assert_array_equal(again['img'], image)
        PackRISInputs()(found)


def test_every_one_of_them_moves_something():
    still = item(96, 130)['img']
    for step in MOVING:
        pipeline = build_pipeline([step])
        found = [pipeline(item(96, 130, seed=seed))['img'] for seed in range(4)]
        assert any(not np.array_equal(image, still) for image in found), step


@pytest.mark.parametrize('step', COLOURS, ids=lambda step: step['type'])
def test_colours_leave_masks_alone(step):
    before = item(40, 60)
    before['img'] = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    kept = before['img'].copy()
    found = build_pipeline([step])(before)
    assert found['img'].dtype == np.uint8 and found['img'].shape == (40, 60, 3)
    assert found['gt_masks'] is before['gt_masks']
    np.testing.assert_array_equal(before['img'], kept)  # an array of the caller is not painted


def test_a_mirror_exchanges_sides():
    before = item(20, 30)
    found = build_pipeline([dict(type='RandomFlip', prob=1.0)])(before)
    np.testing.assert_array_equal(found['img'], before['img'][:, ::-1])
    np.testing.assert_array_equal(found['gt_masks'], before['gt_masks'][:, :, ::-1])
    texts = [entry['expression'] for entry in found['expressions']]
    assert texts == ['the red one on the RIGHT', 'leftmost box']
    assert before['expressions'][1]['expression'] == 'rightmost box'
    before['expressions'][0]['expression'] = 'the dog right behind her'
    assert build_pipeline([dict(type='RandomFlip', prob=1.0)])(before) is before


@pytest.mark.parametrize(
    'sentence, mirrored',
    [
        ('Left', 'Right'),
        ('2nd from left', '2nd from right'),
        ('left-most man, not the right one', 'right-most man, not the left one'),
        ("the leftmost's hat", "the leftmost's hat"),
        ('bright rights', 'bright rights'),
        ('a red cup', 'a red cup'),
        ('rt guy', 'lft guy'),
        ('right next to the dog', None),
        ('the second giraffe', None),
        ('cup at 3 o clock', None),
        ('el perro de la izquierda', None),
        ('左边的人', None),
        ('cake left over', None),
    ],
)
def test_sides(sentence, mirrored):
    assert exchange_sides(sentence) == mirrored


def test_a_crop_keeps_every_target():
    masks = np.zeros((1, 100, 100), np.uint8)
    masks[0, 2:5, 2:5] = 1
    pipeline = build_pipeline([dict(type='mmseg.RandomCrop', crop_size=(70, 70))])
    shapes = set()
    for seed in range(20):
        found = pipeline({**item(100, 100, seed=seed), 'gt_masks': masks})
        assert found['gt_masks'].any()
        shapes.add(found['img'].shape)
    assert (70, 70, 3) in shapes
    tiny = build_pipeline([dict(type='CenterCrop', crop_size=(10, 10))])
    assert tiny({**item(100, 100), 'gt_masks': masks})['img'].shape == (100, 100, 3)


@pytest.mark.parametrize('count', [1, 8, 9, 40])
def test_masks_survive_the_label_map(count):
    masks = np.random.default_rng(count).integers(0, 2, (count, 30, 50), np.uint8)
    masks[:, 3] = 255
    labels, table = to_label_map(masks)
    np.testing.assert_array_equal(from_label_map(labels, table), masks)
    assert not table[0].any() and (table[255] == 255).all()


@pytest.mark.parametrize(
    'step, message',
    [
        (dict(type='RandomFlip', prob=0.5, direction='vertical'), 'upside-down'),
        (dict(type='RandomFlip', prob=0.5, swap_seg_labels=[(1, 2)]), 'no classes'),
        (dict(type='mmseg.RandomRotate', prob=0.5, degree=90), 'beyond 45 degrees'),
        (
            dict(type='mmseg.RandomRotate', prob=0.5, degree=9, seg_pad_val=7),
            'filled with 0 or 255',
        ),
        (dict(type='RandomGrayscale', prob=0.5), 'keep_channels=True'),
        (dict(type='mmseg.RGB2Gray', out_channels=1), 'out_channels=3'),
        (
            dict(type='RandomApply', transforms=[dict(type='Normalize', mean=[0], std=[1])]),
            'Normal',
        ),
    ],
)
def test_settings_that_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        build_pipeline([step])


@pytest.mark.parametrize('kind', ['CenterCrop', 'RandomFlip', 'Pad'])
def test_a_test_pipeline_takes_resizes_only(kind):
    step = next(step for step in MOVING if step['type'] == kind)
    with pytest.raises(ValueError, match='only a resize can be undone'):
        build_pipeline([step], test_mode=True)
    build_pipeline([dict(type='Resize', scale=(4, 4))], test_mode=True)


def test_order_and_polygons():
    crop = dict(type='CenterCrop', crop_size=(4, 4))
    early = item(9, 9)
    del early['gt_masks']
    with pytest.raises(ValueError, match='put LoadRefMasks first'):
        build_pipeline([crop])(early)
    with pytest.raises(ValueError, match='keeps polygons of the original'):
        build_pipeline([crop, PackRISInputs(with_segmentation=True)])


class Own(BaseTransform):
    def transform(self, results):
        image = results['img'][:5]
        return dict(results, img=image, img_shape=(5, 9), ori_shape=(5, 9))


class OwnFlip(MMSEG.get('RandomFlip')):
    pass


def test_own_transforms_are_checked_where_they_are_packed():
    with pytest.raises(ValueError, match=r'move gt_masks \(K, H, W\) with it'):
        build_pipeline([Own(), PackRISInputs()])(item(9, 9))
    with pytest.raises(ValueError, match='upside-down'):
        build_pipeline([OwnFlip(prob=0.5, direction='vertical')])
    found = build_pipeline([lambda x: dict(x, img=x['img'][:, ::-1]), PackRISInputs()])(item(9, 9))
    assert found['inputs'].shape == (3, 9, 9)
