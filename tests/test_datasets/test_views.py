"""Mirrored and cut photographs stay true to their sentences."""

import numpy as np
import pytest

from mmseg_aml.datasets.transforms.mirror import RandomMirror, mirror_sentence
from mmseg_aml.datasets.transforms.window import RandomWindow


@pytest.mark.parametrize(
    ('sentence', 'mirrored'),
    [
        ('dog on the left', 'dog on the right'),
        ('leftmost of the right-hand cups', 'rightmost of the left-hand cups'),
        ('Left dog, far RIGHT', 'Right dog, far LEFT'),
        ('rightward facing cat leftside', 'leftward facing cat rightside'),
        ('man upright in bright light', 'man upright in bright light'),
        ('leftover pizza', 'leftover pizza'),
        ('tv copyright', 'tv copyright'),
    ],
)
def test_sides_are_exchanged(sentence, mirrored):
    assert mirror_sentence(sentence) == mirrored
    assert mirror_sentence(mirrored) == sentence


def item(sentences, boxes, size=(20, 30)):
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (top, left, bottom, right) in zip(masks, boxes):
        mask[top:bottom, left:right] = 1
    image = np.repeat(np.arange(size[1], dtype=np.uint8)[None], size[0], 0)
    return dict(
        img=np.stack([image] * 3, -1),
        gt_masks=masks,
        gt_seg_map=masks[0].copy(),
        image_id=7,
        height=size[0],
        width=size[1],
        expressions=[dict(expression=text, sent_id=i) for i, text in enumerate(sentences)],
    )


def test_mirror_moves_everything_or_nothing():
    results = item(['left dog'], [(2, 3, 10, 9)])
    kept = RandomMirror(0.0)(item(['left dog'], [(2, 3, 10, 9)]))
    assert np.array_equal(kept['img'], results['img'])
    assert kept['expressions'][0]['expression'] == 'left dog'
    mirrored = RandomMirror(1.0)(results)
    assert np.array_equal(mirrored['img'], kept['img'][:, ::-1])
    assert np.array_equal(mirrored['gt_masks'], kept['gt_masks'][:, :, ::-1])
    assert np.array_equal(mirrored['gt_seg_map'], kept['gt_seg_map'][:, ::-1])
    assert mirrored['expressions'] == [dict(expression='right dog', sent_id=0)]
    with pytest.raises(ValueError, match='prob'):
        RandomMirror(1.5)


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
    assert results['img'].shape == (10, 15, 3) and results['gt_seg_map'].shape == (10, 15)
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
