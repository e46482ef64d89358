"""Pure functions from arrays to panels, and from panels to one picture."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from .text import clean, font_for, wrap

GT_COLOR = (40, 220, 90)
PRED_COLOR = (255, 70, 40)
MIN_SIDE, MAX_SIDE = 320, 640
"""Panels are scaled until their longer side is in this range."""
GAP, TITLE_SIZE, CAPTION_SIZE, TITLE_LINES = 10, 22, 16, 4
INK, PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class Panel:
    """One captioned picture: ``image`` uint8 RGB (h, w, 3); all panels of a picture are alike in
    size. ``value_range`` asks for a colour bar from its first to its second value."""

    caption: str
    image: np.ndarray
    value_range: tuple[float, float] | None = None


def panel_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) at which a picture is shown: small ones by a whole factor, so that their
    pixels stay exact, very large ones smaller."""
    longer = max(height, width)
    scale = -(-MIN_SIDE // longer) if longer < MIN_SIDE else min(1.0, MAX_SIDE / longer)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(array: np.ndarray, size: tuple[int, int], smooth: bool = True) -> np.ndarray:
    """Resize (h, w) float32/uint8 or (h, w, 3) uint8 to ``size`` (height, width)."""
    height, width = size
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.array(Image.fromarray(array).resize((width, height), method))


def show_image(image: np.ndarray) -> np.ndarray:
    """The photograph at panel size; enlarged pixels are not smoothed."""
    size = panel_size(*image.shape[:2])
    return resize(image, size, smooth=size[0] < image.shape[0])


def edges(mask: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool of ``mask`` with a 4-neighbour outside it, two pixels thick inwards."""
    inner = mask
    for _ in range(2):
        p = np.pad(inner, 1, mode='edge')
        inner = inner & p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:]
    return mask & ~inner


def overlay_mask(
    image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], fill: float = 0.45
) -> np.ndarray:
    """Blend ``color`` into ``image`` (h, w, 3) uint8 where ``mask`` (any size, bool) is set.

    The mask's edge is painted in the full colour.
    """
    mask = resize(mask.astype(np.uint8), image.shape[:2], smooth=False).astype(bool)
    out = image.copy()
    out[mask] = np.rint((1 - fill) * image[mask] + fill * np.array(color)).astype(np.uint8)
    out[edges(mask)] = color
    return out


def colorize(values: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to uint8 RGB by the 'turbo' colour map; an axis of 3 is added."""
    return matplotlib.colormaps['turbo'](np.clip(values, 0, 1), bytes=True)[..., :3]


def overlay_heat(
    image: np.ndarray, values: np.ndarray, value_range: tuple[float, float]
) -> np.ndarray:
    """Blend a map (h', w') over ``image`` (h, w, 3), colours spread over ``value_range``."""
    low, high = value_range
    unit = (values.astype(np.float32) - low) / max(high - low, 1e-12)
    heat = colorize(resize(unit.astype(np.float32), image.shape[:2]))
    return np.rint(0.4 * image + 0.6 * heat).astype(np.uint8)


def black_out(image: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Paint ``image`` (h, w, 3) black in the set blocks of the grid ``blocks`` (h_b, w_b) bool."""
    hidden = resize(blocks.astype(np.uint8), image.shape[:2], smooth=False).astype(bool)
    out = image.copy()
    out[hidden] = 0
    return out


def _draw_bar(pen: ImageDraw.ImageDraw, canvas: Image.Image, box: tuple, limits: tuple) -> None:
    """A colour bar with its limits at both ends, in ``box`` (x, y, width)."""
    x, y, width = box
    font = font_for(frozenset(), CAPTION_SIZE)
    low, high = (f'{v:.3g}' for v in limits)
    left, right = x + font.getlength(low) + 6, x + width - font.getlength(high) - 6
    ramp = colorize(np.linspace(0, 1, max(int(right - left), 1)))
    canvas.paste(
        Image.fromarray(np.repeat(ramp[None], CAPTION_SIZE - 4, axis=0)), (int(left), y + 4)
    )
    pen.text((x, y), low, INK, font)
    pen.text((right + 6, y), high, INK, font)


def compose(title: str, panels: list[Panel]) -> np.ndarray:
    """Lay panels out in rows under a wrapped title.

    Args:
        title: any text; what exceeds four lines ends in an ellipsis.
        panels: at least one, all of the same size.

    Returns:
        uint8 RGB (H, W, 3).
    """
    height, width = panels[0].image.shape[:2]
    columns = len(panels) if len(panels) <= 3 else -(-len(panels) // 2)
    rows = -(-len(panels) // columns)
    total = columns * (width + GAP) + GAP
    font = font_for(frozenset(clean(title)), TITLE_SIZE)
    lines = wrap(title or '(empty expression)', font, total - 2 * GAP, TITLE_LINES)
    head = GAP + len(lines) * (TITLE_SIZE + 6)
    foot = CAPTION_SIZE + 8 + (CAPTION_SIZE + 4) * any(p.value_range for p in panels)
    canvas = Image.new('RGB', (total, head + rows * (height + foot + GAP)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        pen.text((GAP, GAP // 2 + i * (TITLE_SIZE + 6)), line, INK, font)
    for i, panel in enumerate(panels):
        x = GAP + (i % columns) * (width + GAP)
        y = head + (i // columns) * (height + foot + GAP)
        canvas.paste(Image.fromarray(panel.image), (x, y))
        small = font_for(frozenset(clean(panel.caption)), CAPTION_SIZE)
        pen.text((x, y + height + 3), wrap(panel.caption, small, width, 1)[0], INK, small)
        if panel.value_range:
            _draw_bar(pen, canvas, (x, y + height + CAPTION_SIZE + 6, width), panel.value_range)
    return np.array(canvas)
