"""What a RefShapes picture shows: shapes with attributes and places, from a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring', 'oval', 'heart')
COLORS = ('red', 'orange', 'yellow', 'green', 'blue', 'purple', 'white', 'black')
TEXTURES = ('plain', 'striped', 'dotted', 'checkered')
SIZES = {'small': 0.09, 'medium': 0.13, 'large': 0.18}
"""Nominal radius of each size class as a fraction of the picture's shorter side."""

HELD_OUT = frozenset((COLORS[i], SHAPES[(i + 3) % len(SHAPES)]) for i in range(len(COLORS)))
"""Colour-shape pairs kept for testB. Every colour and every shape loses exactly one partner, so
each word is still learnt from seven others."""

MIN_VISIBLE = 0.7
"""Smallest share of a shape's own area that later shapes may leave visible."""


@dataclass(frozen=True)
class Shape:
    """One object. ``x``, ``y`` (centre) and ``radius`` are in pixels, ``angle`` in radians.

    ``id`` is also the painting order: a higher id lies on top.
    """

    id: int
    shape: str
    color: str
    texture: str
    size: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def bulk(self) -> float:
        """Radii differ less than places do: tripled, the common margin separates the classes."""
        return 3 * self.radius

    @property
    def joined(self) -> frozenset[int]:
        """Shapes lie about: none holds another."""
        return frozenset()

    def gap(self, other: Shape) -> float:
        """From the centre of ``other`` to this shape's bounding circle, in pixels."""
        return math.hypot(self.x - other.x, self.y - other.y) - self.radius


@dataclass(frozen=True)
class Is:
    """Shapes with all the given attributes; ``Is()`` is every shape."""

    shape: str | None = None
    color: str | None = None
    texture: str | None = None
    size: str | None = None

    def fits(self, thing: Shape) -> bool:
        """Whether ``thing`` has all of them."""
        return all(v is None or getattr(thing, k) == v for k, v in vars(self).items())


@dataclass(frozen=True)
class Scene:
    """All objects of one picture of ``width`` x ``height`` pixels."""

    width: int
    height: int
    shapes: tuple[Shape, ...]

    @property
    def side(self) -> int:
        """The shorter side in pixels, the unit of all sizes and margins."""
        return min(self.width, self.height)

    @property
    def things(self) -> tuple[Shape, ...]:
        """What the logic speaks of."""
        return self.shapes


def sample_attributes(
    rng: random.Random, count: int, held_out: bool
) -> list[tuple[str, str, str, str]]:
    """Draw ``(shape, color, texture, size)`` of ``count`` objects.

    Two of three objects share their shape or their colour with an earlier one: without such
    distractors one word would name almost every object.

    Args:
        held_out: testB. The first two objects are then held-out pairs (there is always a target),
            the others any pair. Otherwise no object is one.
    """
    drawn: list[tuple[str, str, str, str]] = []
    while len(drawn) < count:
        shape, color = rng.choice(SHAPES), rng.choice(COLORS)
        if held_out and len(drawn) < 2:
            color, shape = rng.choice(sorted(HELD_OUT))
        elif drawn and rng.random() < 0.67:
            model = rng.choice(drawn)
            shape, color = (model[0], color) if rng.random() < 0.5 else (shape, model[1])
        if (color, shape) in HELD_OUT and not held_out:
            continue
        texture = rng.choices(TEXTURES, weights=(4, 2, 2, 2))[0]
        size = rng.choices(tuple(SIZES), weights=(3, 4, 3))[0]
        drawn.append((shape, color, texture, size))
    return drawn


def sample_angle(rng: random.Random, shape: str) -> float:
    """A rotation that leaves the shape's name right (a square must not become a diamond)."""
    limit = math.pi / 2 if shape in ('oval', 'star') else math.pi / 10
    return rng.uniform(-limit, limit)


def place(
    rng: random.Random, width: int, height: int, radius: float, others: list[Shape]
) -> tuple[float, float] | None:
    """A centre that keeps the shape inside the picture and off the others' centres, or None.

    Bounding circles may overlap by a fifth; how much stays visible is measured on the masks.
    """
    for _ in range(30):
        x = rng.uniform(radius + 1, width - radius - 1)
        y = rng.uniform(radius + 1, height - radius - 1)
        if all(math.hypot(x - o.x, y - o.y) >= 0.8 * (radius + o.radius) for o in others):
            return x, y
    return None


def sample_scene(
    rng: random.Random,
    width: int,
    height: int,
    held_out: bool = False,
    most: int = 10,
    scale: float = 1.0,
) -> Scene:
    """Draw a scene of 3 to ``most`` shapes, ``scale`` times the usual size.

    ``held_out`` as in :func:`sample_attributes`.

    An object that finds no free place is left out, so crowded scenes may hold fewer than drawn.
    """
    while True:
        shapes: list[Shape] = []
        for shape, color, texture, size in sample_attributes(rng, rng.randint(3, most), held_out):
            radius = scale * SIZES[size] * min(width, height) * rng.uniform(0.95, 1.05)
            spot = place(rng, width, height, radius, shapes)
            if spot is not None:
                angle = sample_angle(rng, shape)
                shapes.append(Shape(len(shapes), shape, color, texture, size, *spot, radius, angle))
        if len(shapes) >= 3:
            return Scene(width, height, tuple(shapes))
