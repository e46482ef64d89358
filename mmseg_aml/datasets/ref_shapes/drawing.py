"""Draw a RefShapes scene: picture and visible masks from the same antialiased coverage."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from .scene import Scene, Shape

PALETTE = {
    'red': (214, 38, 40),
    'orange': (246, 140, 30),
    'yellow': (246, 226, 62),
    'green': (38, 158, 62),
    'blue': (36, 82, 214),
    'purple': (142, 52, 176),
    'white': (246, 246, 246),
    'black': (24, 24, 26),
}
SUPERSAMPLING = 4


def regular(corners: int, start: float = -math.pi / 2) -> np.ndarray:
    """Corners (corners, 2) of a regular polygon in the unit circle, the first at ``start``."""
    turn = start + 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def outline(shape: str) -> np.ndarray:
    """Outline (N, 2) of a shape within the unit circle, y pointing down."""
    if shape == 'square':
        return regular(4, math.pi / 4)
    if shape == 'triangle':
        return regular(3)
    if shape == 'star':
        return regular(10) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None]
    if shape == 'cross':
        a, b = 0.3, 0.95
        quarter = np.array([(-a, -a), (-a, -b), (a, -b)])
        turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return np.concatenate([quarter @ turn for turn in turns])
    if shape == 'oval':
        return regular(64) * (1.0, 0.55)
    if shape == 'heart':
        t = 2 * math.pi * np.arange(64) / 64
        x = 16 * np.sin(t) ** 3
        y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
        return np.stack([x, y + 1.1], axis=1) / 18.2  # its centroid in the origin
    return regular(64)


def coverage(shape: Shape, scene: Scene) -> np.ndarray:
    """How much of each pixel the whole shape covers: float32 (H, W) in [0, 1]."""
    c, s = math.cos(shape.angle), math.sin(shape.angle)
    points = outline(shape.shape) @ np.array([[c, s], [-s, c]])
    canvas = Image.new('L', (scene.width * SUPERSAMPLING, scene.height * SUPERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    for scale, value in ((1.0, 255), (0.55, 0))[: 2 if shape.shape == 'ring' else 1]:
        corners = (points * scale * shape.radius + (shape.x, shape.y)) * SUPERSAMPLING
        pen.polygon([tuple(p) for p in corners.tolist()], fill=value)
    small = canvas.resize((scene.width, scene.height), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def paint(shape: Shape, scene: Scene) -> np.ndarray:
    """The shape's textured colour at every pixel: float32 (H, W, 3) in [0, 255]."""
    base = np.array(PALETTE[shape.color], dtype=np.float32)
    toward = 255.0 if shape.color in ('black', 'blue') else 0.0
    second = base + (0.25 if shape.color == 'black' else 0.42) * (toward - base)
    unit = max(scene.side / 128, 0.5)
    y, x = np.mgrid[: scene.height, : scene.width].astype(np.float32)
    if shape.texture == 'striped':
        turn = shape.angle + math.pi / 4
        wave = (x - shape.x) * math.cos(turn) + (y - shape.y) * math.sin(turn)
        mix = 0.5 + 0.5 * np.clip(2.5 * np.sin(2 * math.pi * wave / (6 * unit)), -1, 1)
    elif shape.texture == 'dotted':
        period = 6.5 * unit
        u, v = (x - shape.x) % period - period / 2, (y - shape.y) % period - period / 2
        mix = np.clip(2.2 * unit - np.hypot(u, v) + 0.5, 0, 1)
    elif shape.texture == 'checkered':
        period = 10 * unit
        waves = (np.sin(2 * math.pi * (p / period)) for p in (x - shape.x, y - shape.y))
        mix = 0.5 + 0.5 * np.clip(4 * np.prod(list(waves), axis=0), -1, 1)
    else:
        mix = np.clip(0.12 + 0.12 * (y - shape.y) / shape.radius, 0, 0.25)
    return base + mix[..., None] * (second - base)


def background(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """A greyish textured ground, float32 (H, W, 3): smooth noise, gradient or broad stripes."""
    y, x = np.mgrid[: scene.height, : scene.width].astype(np.float32) / scene.side
    turn = rng.uniform(0, math.pi)
    along = x * math.cos(turn) + y * math.sin(turn)
    texture = rng.integers(3)
    if texture == 0:
        cells = rng.uniform(-1, 1, (7, 7)).astype(np.float32)
        grid = Image.fromarray(cells).resize((scene.width, scene.height), Image.Resampling.BICUBIC)
        light = np.asarray(grid)
    elif texture == 1:
        light = 2 * (along - along.min()) / (along.max() - along.min()) - 1
    else:
        light = np.sin(2 * math.pi * along * rng.uniform(3, 8))
    tint = rng.uniform(105, 165) + rng.uniform(-14, 14, 3)
    return (tint + light[..., None] * rng.uniform(8, 24)).astype(np.float32)


def draw(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a scene.

    Returns:
        The picture, uint8 RGB (H, W, 3); the visible masks, bool (N, H, W), which never overlap;
        and the visible share of each shape's own area, float (N,).
    """
    picture = background(rng, scene)
    visible: list[np.ndarray] = []
    areas: list[int] = []
    for shape in scene.shapes:
        alpha = coverage(shape, scene)
        picture += alpha[..., None] * (paint(shape, scene) - picture)
        mask = alpha > 0.5
        visible = [earlier & ~mask for earlier in visible] + [mask]
        areas.append(int(mask.sum()))
    picture += rng.normal(0, 5, picture.shape)
    masks = np.stack(visible)
    shares = masks.sum((1, 2)) / np.maximum(areas, 1)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), masks, shares
