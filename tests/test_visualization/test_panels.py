"""Panels and text: tiny arrays, exact pixels."""

from __future__ import annotations

import numpy as np
import pytest

from mmseg_aml.visualization import panels, text
from mmseg_aml.visualization.panels import Panel


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ((64, 64), (320, 320)),  # small: five times
        ((128, 96), (384, 288)),
        ((448, 448), (448, 448)),
        ((480, 640), (480, 640)),
        ((1280, 640), (640, 320)),
        ((1, 2000), (1, 640)),
    ],
)
def test_panel_size(shape, expected):
    assert panels.panel_size(*shape) == expected


def test_small_pictures_keep_their_pixels():
    image = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    shown = panels.show_image(image)
    assert shown.shape == (160, 320, 3)
    assert np.array_equal(shown[20::40, 20::40], image)


def test_a_mask_is_blended_and_its_edge_painted():
    image = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:4] = True  # rows 10 to 29, columns 20 to 39 of the image
    out = panels.overlay_mask(image, mask, (200, 0, 100), fill=0.5)
    assert out[20, 30].tolist() == [150, 50, 100]
    assert out[10, 20].tolist() == out[29, 39].tolist() == [200, 0, 100]
    outside = np.ones((40, 60), bool)
    outside[10:30, 20:40] = False
    assert (out[outside] == 100).all()
    assert (image == 100).all()


def test_black_out_hides_exactly_the_blocks():
    out = panels.black_out(np.full((6, 8, 3), 9, np.uint8), np.array([[1, 0], [0, 0]], bool))
    assert (out[:3, :4] == 0).all() and out[3:].min() == 9 and out[:, 4:].min() == 9


def test_heat_spreads_over_the_range():
    image = np.zeros((2, 40, 3), np.uint8)
    out = panels.overlay_heat(image, np.array([[-2.0, 2.0]]), (-2, 2))
    low, high = panels.colorize(np.array([0.0, 1.0]))
    assert np.allclose(out[0, 0], 0.6 * low, atol=1) and np.allclose(out[1, -1], 0.6 * high, atol=1)
    flat = panels.overlay_heat(image, np.ones((1, 1)), (1, 1))  # a constant map is no division by 0
    assert (flat == flat[0, 0]).all()


def test_compose_lays_out_rows():
    size = (100, 320)
    one = panels.compose('x', [Panel('a', np.zeros((*size, 3), np.uint8))])
    four = panels.compose('x', [Panel('a', np.zeros((*size, 3), np.uint8))] * 4)
    assert four.shape[1] == one.shape[1] * 2 - panels.GAP
    assert four.shape[0] > one.shape[0] + 100
    assert (four == 0).all(-1).sum() >= 4 * 100 * 320


@pytest.mark.parametrize(
    'sentence',
    ['word ' * 500, 'x' * 3000, '\u4e2d' * 900, 'the \U0001f600 ' * 300],
    ids=['words', 'one word', 'Chinese', 'emoji'],
)
def test_long_text_is_cut_with_an_ellipsis(sentence):
    font = text.font_for(frozenset(sentence), 20)
    lines = text.wrap(sentence, font, 300, max_lines=3)
    assert len(lines) == 3 and lines[-1].endswith(text.ELLIPSIS)
    assert all(font.getlength(line) <= 300 for line in lines)


def test_short_text_is_kept():
    font = text.font_for(frozenset('a'), 20)
    assert text.wrap('a\tb\n c\x00', font, 300, 1) == ['a b c\ufffd']
    assert text.wrap('', font, 300, 2) == ['']


def test_a_script_that_no_font_has_is_said():
    with pytest.warns(UserWarning, match='no installed font has all characters.*fonts-noto-cjk'):
        text.font_for(frozenset('a\U000f1234'), 21)
