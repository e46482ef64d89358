"""Windows of photographs stay true to their sentences, and are few."""

import numpy as np
import pytest

from mmseg_aml.datasets.transforms.window import RandomWindow


def item(sentences, boxes, size=(20, 30)):
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = 1
    image = np.repeat(np.arange(size[1], dtype=np.uint8)[None], size[0], 0)
    return dict(
        img=np.stack([image] * 3, -1),
        gt_masks=masks,
        image_id=7,
        height=size[0],
        width=size[1],
        expressions=[dict(expression=text, sent_id=i) for i, text in enumerate(sentences)],
    )


def test_windows_are_few_and_the_same_again():
    window = RandomWindow(3, scale=(0.5, 0.8))
    np.random.seed(0)
    seen = {window(item(['dog'], [(9, 14, 11, 16)]))['img'].tobytes() for _ in range(40)}
    assert 1 < len(seen) <= 3
    assert window.window(7, 1, (20, 30)) == window.window(7, 1, (20, 30))
    assert window.window(7, 1, (20, 30)) != window.window(8, 1, (20, 30))


def test_cut_targets_and_counted_objects_leave(monkeypatch):
    monkeypatch.setattr(np.random, 'randint', lambda windows: 1)
    window = RandomWindow(2, scale=(0.5, 0.5))
    rows, columns = window.window(7, 1, (20, 30))
    top, left = rows.start, columns.start
    inside = (top + 1, left + 1, top + 4, left + 4)
    half = (top + 1, left + 13, top + 4, min(left + 17, 30))
    outside = (0, 0, 20, 30)
    results = window(
        item(['dog', 'second dog from the left', 'cat', 'wall'], [inside, inside, half, outside])
    )
    assert [e['expression'] for e in results['expressions']] == ['dog']
    assert results['gt_masks'].shape == (1, 10, 15) and results['gt_masks'].sum() == 9
    assert results['img'].shape == (10, 15, 3)
    assert results['img'][0, 0, 0] == left


def test_photograph_stays_whole_where_nothing_would_be_left(monkeypatch):
    monkeypatch.setattr(np.random, 'randint', lambda windows: 1)
    results = RandomWindow(2)(item(['wall'], [(0, 0, 20, 30)]))
    assert results['img'].shape == (20, 30, 3) and len(results['expressions']) == 1


@pytest.mark.parametrize(
    'settings', [dict(windows=0), dict(scale=(0.0, 1.0)), dict(scale=(1, 0.5))]
)
def test_window_refuses(settings):
    with pytest.raises(ValueError, match='windows >= 1'):
        RandomWindow(**settings)


def test_few_different_pictures_reach_the_tower(root, tmp_path):
    """3 windows, mirrored or not: at most 6, which is what FrozenBackbone counts on."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from mmseg_aml.datasets.transforms.framework import build_pipeline

    config = Config.fromfile(root / 'configs/_base_/datasets/photos_384x384.py')
    init_default_scope('mmseg')
    steps = build_pipeline(config.train_pipeline[2:-1])
    np.random.seed(0)
    seen = set()
    for _ in range(60):
        results = item(['dog on the left'], [(9, 14, 11, 16)])
        results.update(ori_shape=(20, 30), img_shape=(20, 30))
        results = steps(results)
        seen.add(results['img'].tobytes())
    assert 3 < len(seen) <= 6
