"""Contact sheets: many captioned pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .panels import CAPTION_SIZE, GAP, INK, PAPER
from .text import clean, font_for, wrap

CELL = 300  # pixels, both sides
CAPTION_LINES = 3


class Cell(NamedTuple):
    """A picture (h, w, 3) uint8 RGB of any size, and what stands under it."""

    picture: np.ndarray
    caption: str


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """``picture`` (h, w, 3) made to fit a cell; never enlarged."""
    small = Image.fromarray(picture)
    small.thumbnail((CELL, CELL), Image.Resampling.BILINEAR)
    return np.array(small)


def contact_sheet(cells: Sequence[Cell], columns: int = 4) -> np.ndarray:
    """Cells in rows, each caption in at most three lines, the rest an ellipsis.

    Returns:
        uint8 RGB (H, W, 3).
    """
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    line = CAPTION_SIZE + 4
    height = CELL + CAPTION_LINES * line + GAP
    page = Image.new('RGB', (columns * (CELL + GAP) + GAP, rows * (height + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for place, cell in enumerate(cells):
        x = GAP + place % columns * (CELL + GAP)
        y = GAP + place // columns * (height + GAP)
        small = thumbnail(cell.picture)
        page.paste(Image.fromarray(small), (x + (CELL - small.shape[1]) // 2, y))
        font = font_for(frozenset(clean(cell.caption)), CAPTION_SIZE)
        for i, text in enumerate(wrap(cell.caption, font, CELL, CAPTION_LINES)):
            pen.text((x, y + small.shape[0] + 4 + i * line), text, INK, font)
    return np.array(page)
