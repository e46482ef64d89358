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
    """``picture`` (h, w, 3) made to fit a cell; small ones by a whole factor larger."""
    small = Image.fromarray(picture)
    factor = CELL // max(small.size)
    if factor > 1:
        size = small.width * factor, small.height * factor
        return np.array(small.resize(size, Image.Resampling.NEAREST))
    small.thumbnail((CELL, CELL), Image.Resampling.BILINEAR)
    return np.array(small)


def contact_sheet(cells: Sequence[Cell], columns: int = 4) -> np.ndarray:
    """Cells in rows, each caption in at most three lines, the rest an ellipsis.

    Returns:
        uint8 RGB (H, W, 3).
    """
    columns = min(columns, len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    return np.concatenate([_row(row, columns) for row in rows])


def _row(cells: Sequence[Cell], columns: int) -> np.ndarray:
    pictures = [thumbnail(cell.picture) for cell in cells]
    line = CAPTION_SIZE + 4
    highest = max(picture.shape[0] for picture in pictures)
    height = highest + CAPTION_LINES * line + 2 * GAP
    page = Image.new('RGB', (columns * (CELL + GAP) + GAP, height), PAPER)
    pen = ImageDraw.Draw(page)
    for place, (cell, picture) in enumerate(zip(cells, pictures)):
        x = GAP + place * (CELL + GAP)
        page.paste(Image.fromarray(picture), (x + (CELL - picture.shape[1]) // 2, GAP))
        font = font_for(frozenset(clean(cell.caption)), CAPTION_SIZE)
        for i, text in enumerate(wrap(cell.caption, font, CELL, CAPTION_LINES)):
            pen.text((x, GAP + highest + 4 + i * line), text, INK, font)
    return np.array(page)
