"""RISVisualizer: what is drawn, where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_aml.registry import VISUALIZERS
from mmseg_aml.visualization import RISVisualizer
from mmseg_aml.visualization.panels import GT_COLOR, PRED_COLOR

H, W = 30, 64  # shown five times as large: 150 x 320


def make_sample(expression: str = 'the red circle', **metainfo) -> SegDataSample:
    sample = SegDataSample(metainfo=dict(expression=expression, **metainfo))
    truth, predicted = torch.zeros(2, 1, H, W, dtype=torch.uint8)
    truth[:, 5:15, 10:20] = 1
    predicted[:, 5:15, 15:25] = 1
    sample.gt_sem_seg = PixelData(data=truth)
    sample.pred_sem_seg = PixelData(data=predicted)
    return sample


@pytest.fixture
def image() -> np.ndarray:
    return np.full((H, W, 3), (150, 120, 90), np.uint8)


@pytest.fixture
def visualizer() -> RISVisualizer:
    return RISVisualizer(name='test')


def painted(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((picture == color).all(-1))


def test_masks_land_on_their_pixels(visualizer, image):
    picture = visualizer.draw(image, make_sample())
    assert picture.dtype == np.uint8 and picture.shape[1] == 3 * 320 + 4 * 10
    rows = np.nonzero((picture == (150, 120, 90)).all(-1).any(1))[0]
    top = rows[0]
    assert rows[-1] - top == 149
    y, x = painted(picture, GT_COLOR)
    second = x < 670  # ground truth panel, and its outline in the prediction's panel
    assert (y.min() - top, y.max() - top) == (25, 74)
    assert (x[second].min() - 340, x[second].max() - 340) == (50, 99)
    assert (x[~second].min() - 670, x[~second].max() - 670) == (50, 99)
    y, x = painted(picture, PRED_COLOR)
    assert (y.min() - top, y.max() - top) == (25, 74)
    assert x.max() - 670 == 124 and x.min() > 670


@pytest.mark.parametrize(
    'expression',
    ['', 'word ' * 500, 'le \u00e9t\u00e9 \u4e2d\u6587 $x^{ \U0001f600\n\x00'],
    ids=repr,
)
def test_any_expression(visualizer, image, expression):
    plain, picture = (visualizer.draw(image, make_sample(e)) for e in ('a', expression))
    assert picture.shape[1] == plain.shape[1]
    assert plain.shape[0] <= picture.shape[0] <= plain.shape[0] + 3 * 28


def test_more_panels(visualizer, image):
    scores, blocks = torch.rand(1, 6, 8), np.eye(4, dtype=bool)
    given = visualizer.draw(image, make_sample(), alignment=scores, masked_blocks=blocks)
    assert given.shape[1] == 3 * 320 + 4 * 10  # two rows of three
    carried = make_sample(masked_blocks=blocks)
    carried.alignment = PixelData(data=scores)
    assert np.array_equal(visualizer.draw(image, carried), given)
    more = visualizer.draw(
        image,
        make_sample(),
        alignment=scores,
        masked_blocks=blocks,
        maps={'a': -scores, 'b': scores},
    )
    assert more.shape[1] == 4 * 320 + 5 * 10


def test_the_padding_of_a_map_is_not_drawn(visualizer, image):
    blocks = torch.zeros(2, 4, dtype=torch.bool)
    blocks[:, 2:] = True  # the right half of the network's input is padding
    sample = make_sample(img_shape=(8, 8), pad_shape=(8, 16))
    picture = visualizer.draw(image, sample, masked_blocks=blocks)
    assert not (picture == 0).all(-1).any()


def test_no_target_and_photograph_alone(visualizer, image):
    sample = make_sample()
    sample.gt_sem_seg.data.zero_()
    sample.pred_sem_seg.data.zero_()
    assert not painted(visualizer.draw(image, sample), GT_COLOR)[0].size
    alone = visualizer.draw(image, SegDataSample(metainfo=dict(expression='a')))
    assert alone.shape[1] == 320 + 2 * 10


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(alignment=torch.full((4, 4), 1.5)), r'alignment: expected \[0, 1\]'),
        (dict(alignment=torch.full((4, 4), float('nan'))), 'alignment.*not finite'),
        (dict(alignment=torch.zeros(2, 4, 4)), r'alignment: expected \(h, w\).*\(2, 4, 4\)'),
        (dict(maps=dict(word=torch.zeros(3))), 'word: expected'),
    ],
)
def test_bad_maps(visualizer, image, change, message):
    with pytest.raises(ValueError, match=message):
        visualizer.draw(image, make_sample(), **change)


def test_bad_image_and_mask(visualizer, image):
    with pytest.raises(ValueError, match=r'gt_sem_seg: expected .*\(30, 60\), got \(30, 64\)'):
        visualizer.draw(image[:, :60], make_sample())
    with pytest.raises(ValueError, match='image: expected uint8'):
        visualizer.draw(image.astype(np.float32), make_sample())


def test_backends_get_pictures_and_scalars(image, tmp_path):
    config = dict(
        type='mmseg_aml.RISVisualizer',
        name='backends',
        vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
        save_dir=str(tmp_path),
    )
    visualizer = VISUALIZERS.build(config)
    picture = visualizer.add_datasample('val_3', image, make_sample(), step=7)
    visualizer.add_scalar('mIoU', 0.5, step=7)
    visualizer.close()
    written = tmp_path / 'vis_data/vis_image/val_3_7.png'
    assert np.array_equal(np.asarray(Image.open(written)), picture)
    assert 'mIoU' in next(tmp_path.rglob('scalars.json')).read_text()
    assert list(tmp_path.rglob('events.out.tfevents*'))
    visualizer.add_datasample('x', image, make_sample(), out_file=tmp_path / 'new/one.png')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'new/one.png')), picture)
