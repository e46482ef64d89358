"""Text in pictures: any Unicode, wrapped and shortened to a pixel width."""

from __future__ import annotations

import warnings
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

ELLIPSIS = '\u2026'


@cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


@lru_cache(maxsize=64)
def font_for(characters: frozenset[str], size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans (it comes with matplotlib), or the first installed font that has more of
    ``characters``, for scripts that DejaVu lacks. What no font has is drawn as a box, with a
    warning.

    Args:
        size: font size in pixels.
    """
    wanted = frozenset(map(ord, characters))
    best = str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'))
    missing = len(wanted - _characters(best))
    if missing:
        # "Last Resort" fonts claim every character and draw its script's sign in a frame.
        fonts = [f for f in font_manager.fontManager.ttflist if 'Last Resort' not in f.name]
        for path in sorted({font.fname for font in fonts}):
            if len(wanted - _characters(path)) < missing:
                best, missing = path, len(wanted - _characters(path))
    if missing:
        warnings.warn(  # the same words each time, so that Python says them once
            'no installed font has all characters of a sentence, and boxes stand for them in its '
            'picture: install one for its script, such as fonts-noto-cjk (Debian, Ubuntu)',
            stacklevel=2,
        )
    return ImageFont.truetype(best, size)


def clean(text: str) -> str:
    """One line: runs of white space become one space, control characters a replacement mark."""
    return ''.join(c if c.isprintable() else '\ufffd' for c in ' '.join(text.split()))


def _pieces(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """``word`` cut into pieces no wider than ``width``; text without spaces is one such word."""
    pieces = ['']
    for character in word:
        if pieces[-1] and font.getlength(pieces[-1] + character) > width:
            pieces.append('')
        pieces[-1] += character
    return pieces


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int) -> list[str]:
    """Break ``text`` into at most ``max_lines`` lines no wider than ``width`` pixels.

    What does not fit is replaced by an ellipsis.
    """
    lines = ['']
    for word in clean(text).split(' '):
        for piece in _pieces(word, font, width):
            longer = f'{lines[-1]} {piece}' if lines[-1] else piece
            if font.getlength(longer) <= width:
                lines[-1] = longer
            elif len(lines) < max_lines:
                lines.append(piece)
            else:
                while lines[-1] and font.getlength(lines[-1] + ELLIPSIS) > width:
                    lines[-1] = lines[-1][:-1]
                lines[-1] = lines[-1].rstrip() + ELLIPSIS
                return lines
    return lines
