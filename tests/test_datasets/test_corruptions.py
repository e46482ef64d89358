import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_aml.datasets.transforms.corruptions import (
    HIDDEN,
    IMAGE_CORRUPTIONS,
    SEVERITIES,
    TEXT_CORRUPTIONS,
    CorruptImage,
    CorruptText,
    hidden_blocks,
)
from mmseg_aml.registry import TRANSFORMS


def photograph(height=60, width=80):
    """Smooth colours with an edge, so that every corruption shows."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 3, columns * 3, (rows + columns) % 50 * 4], -1).astype(np.uint8)
    image[20:40, 30:50] = (200, 30, 30)
    return image


def item(**extra):
    square = [[30, 20, 50, 20, 50, 40, 30, 40]]
    return {
        'img': photograph(),
        'image_id': 7,
        'expressions': [
            dict(expression='red square on the left', sent_id=1, ann_ids=[3], segmentation=[square])
        ],
        **extra,
    }


def change(image):
    return np.abs(image.astype(int) - photograph()).mean()


@pytest.mark.parametrize('kind', IMAGE_CORRUPTIONS)
def test_image_grows_worse_and_stays_an_image(kind):
    changes = []
    for severity in SEVERITIES:
        image = CorruptImage(kind, severity).transform(item())['img']
        assert image.shape == (60, 80, 3) and image.dtype == np.uint8
        changes.append(change(image))
    assert changes[0] > 0
    assert changes == sorted(changes)
    assert changes[4] > 1.2 * changes[0]


@pytest.mark.parametrize('kind', IMAGE_CORRUPTIONS)
def test_image_is_deterministic(kind):
    def run(seed=0, **extra):
        return CorruptImage(kind, 3, seed).transform(item(**extra))['img']

    assert np.array_equal(run(), run())
    if kind not in ('low_light', 'jpeg'):
        others = [run(seed=seed) for seed in range(1, 5)] + [run(image_id=i) for i in range(4)]
        assert any(not np.array_equal(run(), other) for other in others)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_hidden_share(severity):
    """Blocks are 7x7 of 60x80, and 5x5 of the target's 20x20."""
    share = HIDDEN[severity - 1]
    image = CorruptImage('occlusion', severity).transform(item())['img']
    hidden = (image == np.rint(photograph().mean((0, 1)))).all(-1).mean()
    assert hidden == pytest.approx(share, abs=0.006)
    image = CorruptImage('occlusion_target', severity).transform(item())['img']
    changed = (image != photograph()).any(-1)
    assert changed[20:40, 30:50].sum() == round(share * 400 / 25 - 1e-9) * 25
    assert changed.sum() == changed[20:40, 30:50].sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 9))
def test_hidden_blocks_nest(seed, share, side):
    region = np.random.default_rng(seed).random((23, 31)) > 0.4
    less, more = (
        hidden_blocks(region, part, np.random.default_rng(seed), side)
        for part in (share / 2, share)
    )
    assert not (less & ~more).any() and less.any()
    assert abs((more & region).sum() - share * region.sum()) <= side**2


def test_no_target_has_nothing_to_hide():
    empty = item(expressions=[dict(expression='a', ann_ids=[], segmentation=[])])
    assert change(CorruptImage('occlusion_target', 5).transform(empty)['img']) == 0


def test_image_without_id():
    """As the inferencer gives it: drawn by content."""
    without = {'img': photograph()}
    first = CorruptImage('haze', 2).transform(dict(without))['img']
    assert np.array_equal(first, CorruptImage('haze', 2).transform(dict(without))['img'])


@pytest.mark.parametrize('kind', TEXT_CORRUPTIONS)
@pytest.mark.parametrize('severity', SEVERITIES)
def test_text_is_deterministic_and_leaves_the_rest(kind, severity):
    before = item()
    after = CorruptText(kind, severity).transform(item())
    old, new = before['expressions'][0], after['expressions'][0]
    again = CorruptText(kind, severity).transform(item())['expressions'][0]
    assert new == again
    assert new['expression'] != old['expression']
    assert {**new, 'expression': ''} == {**old, 'expression': ''}


def test_hand_counted_text():
    text = 'the man in the red shirt near a dog'  # 35 characters, 9 words

    def run(kind, severity):
        result = {'expressions': [dict(expression=text, sent_id=1)]}
        return CorruptText(kind, severity).transform(result)['expressions'][0]['expression']

    assert len(run('word_drop', 1).split()) == 8
    assert len(run('word_drop', 5).split()) == 5
    assert len(run('char_delete', 5).replace(' ', '')) == 27 - 7
    assert sorted(run('char_swap', 5)) == sorted(text)
    assert len(run('punctuation', 1)) == 36
    assert len(run('punctuation', 5)) == 35 + 7


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(TEXT_CORRUPTIONS)),
    st.integers(1, 5),
    st.text('ab c', min_size=1).filter(str.strip),
)
def test_a_word_is_left(kind, severity, text):
    result = CorruptText(kind, severity).transform({'expressions': [dict(expression=text)]})
    assert result['expressions'][0]['expression'].strip()


@pytest.mark.parametrize('name', ['CorruptImage', 'CorruptText'])
def test_bad_arguments(name):
    good = {'CorruptImage': 'haze', 'CorruptText': 'word_drop'}[name]
    TRANSFORMS.build(dict(type=f'mmseg_aml.{name}', kind=good, severity=1))
    with pytest.raises(ValueError, match='kind must be one of'):
        TRANSFORMS.build(dict(type=f'mmseg_aml.{name}', kind='fog', severity=1))
    with pytest.raises(ValueError, match='severity must be one of'):
        TRANSFORMS.build(dict(type=f'mmseg_aml.{name}', kind=good, severity=6))
