"""A contact sheet of pictures, sentences and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import pyplot
from PIL import Image

matplotlib.use('Agg')
COLUMNS = 4
FOUND, TRUE = '#dc143c', '#00c853'


class Cell(NamedTuple):
    """One sentence about one picture; ``truth`` is None where it is not known.

    found, truth: (H, W) bool.
    """

    image: str
    sentence: str
    found: np.ndarray
    truth: np.ndarray | None


def contact_sheet(cells: Sequence[Cell], strips: Sequence[Path], path: Path) -> Path:
    """Draws ``cells`` in rows of four, then ``strips``, pictures of the whole width."""
    rows = -(-len(cells) // COLUMNS)
    heights = [1.0] * rows + [0.75] * len(strips)
    figure = pyplot.figure(figsize=(11, 2.95 * sum(heights)), layout='constrained')
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights)
    for place, cell in enumerate(cells):
        _draw(figure.add_subplot(grid[place // COLUMNS, place % COLUMNS]), cell)
    for row, strip in enumerate(strips, rows):
        axes = figure.add_subplot(grid[row, :])
        axes.imshow(np.asarray(Image.open(strip)), interpolation='nearest')
        axes.set_title(f'what AML masked in training ({strip.stem})', fontsize=9)
        axes.axis('off')
    figure.suptitle('red: what the network sees; green line: the truth', fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _draw(axes: pyplot.Axes, cell: Cell) -> None:
    image = np.asarray(Image.open(cell.image).convert('RGB')) / 255
    tinted = 0.45 * image + 0.55 * np.array([0.86, 0.08, 0.24])
    shown = np.where(cell.found[..., None], tinted, image)
    axes.imshow(shown, interpolation='nearest')
    title = cell.sentence
    for mask, colour in ((cell.truth, TRUE), (cell.found, FOUND)):
        if mask is not None and mask.any() and not mask.all():
            axes.contour(mask, [0.5], colors=[colour], linewidths=1.5)
    if cell.truth is not None:
        union = (cell.truth | cell.found).sum()
        title += f'\nIoU {100 * (cell.truth & cell.found).sum() / max(1, union):.0f} %'
    axes.set_title(title, fontsize=8, wrap=True)
    axes.axis('off')
