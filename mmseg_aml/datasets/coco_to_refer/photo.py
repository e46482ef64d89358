"""COCO annotations of one photograph as the scenes that people may read in it.

A photograph has no single reading: a place may be that of the outline or of what is visible, small
and blurred things may be overlooked, a crowd region holds unknown members, a word may cover a
neighbouring category, and what the border cuts off may be larger than it looks. Each reading is a
plain scene; a sentence must mean its target in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import cv2
import numpy as np

from ..expressions.logic import MARGIN
from ..refer import ReferError, decode_masks
from .vocabulary import Vocabulary

SIZE_RATIO = 1.4
"""Ratio of lengths (square roots of areas) at which one of two things is clearly larger."""
OVERLOOKED = 0.004
"""Things of less than this share of the picture may be overlooked."""
UNCUT = 1.25
"""A thing that the border cuts off may be so much longer than it looks."""


@dataclass(frozen=True)
class PhotoThing:
    """One object in one reading; places in pixels, ``box`` as x0, y0, x1, y1."""

    id: int
    category: str
    nouns: frozenset[str]
    x: float
    y: float
    bulk: float
    box: tuple[float, float, float, float]
    joined: frozenset[int] = frozenset()

    def gap(self, other: PhotoThing) -> float:
        """Between the two boxes, in pixels."""
        (a0, b0, a1, b1), (c0, d0, c1, d1) = self.box, other.box
        return math.hypot(max(a0 - c1, c0 - a1, 0), max(b0 - d1, d0 - b1, 0))


@dataclass(frozen=True)
class PhotoScene:
    """One reading of a photograph of ``width`` x ``height`` pixels."""

    width: int
    height: int
    things: tuple[PhotoThing, ...]

    @property
    def side(self) -> int:
        """The shorter side in pixels."""
        return min(self.width, self.height)


@dataclass(frozen=True)
class Instance:
    """One annotation, measured: ``area`` in pixels, ``centroid`` of the mask, ``box`` of it."""

    id: int
    category: str
    mask: np.ndarray
    area: int
    centroid: tuple[float, float]
    box: tuple[float, float, float, float]
    crowd: bool

    def cut(self, width: int, height: int) -> bool:
        """Whether it touches the border of the picture."""
        x0, y0, x1, y1 = self.box
        return x0 < 2 or y0 < 2 or x1 > width - 2 or y1 > height - 2


def measure(annotation: Mapping[str, Any], category: str, width: int, height: int) -> Instance:
    """Decode and measure one annotation.

    Raises:
        ReferError: If its mask cannot be decoded, or is of another size than the image.
    """
    where = f'annotation {annotation.get("id")}'
    parts = annotation.get('segmentation') or []
    rles = isinstance(parts, list) and any(isinstance(part, Mapping) for part in parts)
    try:
        mask = decode_masks(parts if rles else [parts], height, width)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ReferError(f'the mask of {where} cannot be decoded: {error}') from error
    if mask.shape != (height, width):
        raise ReferError(f'the mask of {where} is {mask.shape}, its image {(height, width)}')
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return Instance(annotation['id'], category, mask, 0, (0, 0), (0, 0, 0, 0), False)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return Instance(
        id=annotation['id'],
        category=category,
        mask=mask,
        area=int(rows.size),
        centroid=(float(columns.mean()), float(rows.mean())),
        box=(float(x0), float(y0), float(x1), float(y1)),
        crowd=bool(annotation.get('iscrowd')),
    )


class Photo:
    """A photograph with its measured annotations, and its :attr:`readings`.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        instances: Of the picture, crowd regions included; empty masks are left out.
        vocabulary: What they may be called.
    """

    def __init__(
        self, width: int, height: int, instances: Sequence[Instance], vocabulary: Vocabulary
    ) -> None:
        self.width, self.height, self.vocabulary = width, height, vocabulary
        self.instances = {i.id: i for i in instances if i.area and not i.crowd}
        self.crowds = [i for i in instances if i.area and i.crowd]
        self.readings: tuple[PhotoScene, ...] = tuple(
            PhotoScene(width, height, self._things(by_box, generous))
            for by_box, generous in product((False, True), (False, True))
        )

    def share(self, instance: Instance) -> float:
        """Share of the picture that ``instance`` covers."""
        return instance.area / (self.width * self.height)

    def _things(self, by_box: bool, generous: bool) -> tuple[PhotoThing, ...]:
        """What there is: strictly what is labelled and seen, or ``generous``, with all doubts."""
        touching = _contacts(list(self.instances.values()), self._side(), generous)
        things = []
        for instance in self.instances.values():
            if not generous and self.share(instance) < OVERLOOKED:
                continue
            nouns = self.vocabulary.of(instance.category, generous)
            things.append(self._thing(instance, nouns, by_box, touching[instance.id]))
        if generous:
            for number, crowd in enumerate(self.crowds):
                things += self._members(crowd, number)
        return tuple(things)

    def _side(self) -> int:
        return min(self.width, self.height)

    def _bulk(self, length: float) -> float:
        """On a logarithmic scale, since people compare sizes by their ratio."""
        return MARGIN * self._side() * math.log(max(length, 1)) / math.log(SIZE_RATIO)

    def _thing(
        self, instance: Instance, nouns: frozenset[str], by_box: bool, joined: frozenset[int]
    ) -> PhotoThing:
        x0, y0, x1, y1 = instance.box
        x, y = ((x0 + x1) / 2, (y0 + y1) / 2) if by_box else instance.centroid
        length = math.sqrt((x1 - x0) * (y1 - y0) if by_box else instance.area)
        if by_box and instance.cut(self.width, self.height):
            length *= UNCUT
        return PhotoThing(
            instance.id, instance.category, nouns, x, y, self._bulk(length), instance.box, joined
        )

    def _members(self, crowd: Instance, number: int) -> list[PhotoThing]:
        """Somebody may stand at either end of a crowd region, and be large or small."""
        x0, y0, x1, y1 = crowd.box
        nouns = self.vocabulary.of(crowd.category, True)
        spots = [((x0 + x1) / 2, (y0 + y1) / 2), (x0, y0), (x1, y0), (x0, y1), (x1, y1)]
        whole = self._bulk(math.sqrt(crowd.area))
        first = PhotoThing(0, crowd.category, nouns, 0, 0, 0, crowd.box)
        return [
            replace(first, id=-(5 * number + k + 1), x=x, y=y, bulk=0 if k else whole)
            for k, (x, y) in enumerate(spots)
        ]


def _contacts(
    instances: Sequence[Instance], side: int, generous: bool
) -> dict[int, frozenset[int]]:
    """Ids of the instances that each one touches, from mask to mask.

    Strictly, their masks meet and half the smaller box lies in the other; generously, the boxes
    nearly meet.
    """
    found: dict[int, set[int]] = {instance.id: set() for instance in instances}
    reach = 2 * round(0.012 * side) + 1
    grown: dict[int, np.ndarray] = {}
    for i, one in enumerate(instances):
        for other in instances[i + 1 :]:
            inside = _inside(one.box, other.box, 0.03 * side if generous else 0)
            if inside < (0.01 if generous else 0.5):
                continue
            if not generous:
                if one.id not in grown:
                    grown[one.id] = cv2.dilate(one.mask, np.ones((reach, reach), np.uint8))
                if not (grown[one.id] & other.mask).any():
                    continue
            found[one.id].add(other.id)
            found[other.id].add(one.id)
    return {key: frozenset(ids) for key, ids in found.items()}


def _inside(one: Sequence[float], other: Sequence[float], room: float) -> float:
    """Share of the smaller box that lies in the other, both grown by ``room`` pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 2 * room
    height = min(one[3], other[3]) - max(one[1], other[1]) + 2 * room
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return max(width, 0) * max(height, 0) / max(smaller, 1)
