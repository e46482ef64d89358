"""The meaning of a referring expression: small typed forms evaluated on a scene.

A form denotes a set of things. Every comparison in it takes a ``slack`` (a fraction of the
picture's shorter side) by which its threshold is widened, or narrowed when negative. A form refers
to a thing *clearly* when the set is exactly that thing for slacks -m, 0 and +m, in every reading
of the scene: nobody has to judge which of two nearly equal places is "further left".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

from .scene import Description, Scene, Thing

MARGIN = 0.06
"""Slack, in shorter sides, that a clear reference must stand."""

REGIONS = {
    'left': (-1, 0),
    'right': (1, 0),
    'top': (0, -1),
    'bottom': (0, 1),
    'top left': (-1, -1),
    'top right': (1, -1),
    'bottom left': (-1, 1),
    'bottom right': (1, 1),
    'center': (0, 0),
}
"""Direction of each region from the picture's centre, y pointing down."""

DIRECTIONS = {'left of': (-1, 0), 'right of': (1, 0), 'above': (0, -1), 'below': (0, 1)}
PLACES = ('left', 'right', 'top', 'bottom')
ORDERS = (*PLACES, 'largest', 'smallest')
CLOSE = 0.1
"""Largest gap, in shorter sides, of things that are next to each other."""


@dataclass(frozen=True)
class Within:
    """Those of ``of`` that lie in one of :data:`REGIONS` of the picture."""

    of: Description
    region: str


@dataclass(frozen=True)
class Ranked:
    """The ``rank``-th (from 1) of ``of`` in one of :data:`ORDERS`."""

    of: Description
    order: str
    rank: int = 1


@dataclass(frozen=True)
class OfTwo:
    """The one of ``of`` that comes first in one of :data:`ORDERS`, if there are exactly two."""

    of: Description
    order: str


@dataclass(frozen=True)
class Middle:
    """The middle one of ``of``, if there are exactly three in a row from left to right, and it is
    also the one nearest to the middle of the picture, as people may mean either."""

    of: Description


@dataclass(frozen=True)
class Beside:
    """Those of ``of`` in one of :data:`DIRECTIONS`, within 45 degrees, from the one ``anchor``."""

    of: Description
    direction: str
    anchor: Description | Ranked


@dataclass(frozen=True)
class Nearest:
    """The one of ``of``, not the anchor itself, closest to the one ``anchor``: both from centre to
    centre and from edge to edge, as people may mean either."""

    of: Description
    anchor: Description | Ranked


@dataclass(frozen=True)
class NextTo:
    """Those of ``of`` whose edge is at most :data:`CLOSE` from the one ``anchor``."""

    of: Description
    anchor: Description | Ranked


@dataclass(frozen=True)
class Joined:
    """Those of ``of`` that are joined to the one ``anchor`` (``Thing.joined``): they sit on it,
    or hold it. ``relation`` only says in which words: ``'on'`` or ``'with'``."""

    of: Description
    relation: str
    anchor: Description


Form = Union[Description, Within, Ranked, OfTwo, Middle, Beside, Nearest, NextTo, Joined]
KINDS: dict[type, str] = {
    Within: 'position',
    Ranked: 'position',
    OfTwo: 'position',
    Middle: 'position',
    Beside: 'relation',
    Nearest: 'relation',
    NextTo: 'relation',
    Joined: 'relation',
}


def kind_of(form: Form) -> str:
    """'attribute', 'position' or 'relation'. Being the largest is an attribute, not a place."""
    if isinstance(form, (Ranked, OfTwo)) and form.order in ('largest', 'smallest'):
        return 'attribute'
    return KINDS.get(type(form), 'attribute')


def evaluate(form: Form, scene: Scene, slack: float = 0.0) -> frozenset[int]:
    """Ids of the things of ``scene`` that ``form`` denotes.

    Args:
        slack: widening (> 0) or narrowing (< 0) of every threshold, in shorter sides.
    """
    return frozenset(thing.id for thing in _denoted(form, scene, slack * scene.side))


def _denoted(form: Form, scene: Scene, margin: float) -> list[Thing]:
    if type(form) not in KINDS:
        return [thing for thing in scene.things if form.fits(thing)]  # type: ignore[union-attr]
    group = _denoted(form.of, scene, margin)  # type: ignore[union-attr]
    if isinstance(form, Within):
        return [thing for thing in group if _in_region(thing, scene, form.region, margin)]
    if isinstance(form, Ranked):
        return _ranked(group, form.order, form.rank, margin)
    if isinstance(form, OfTwo):
        return _ranked(group, form.order, 1, margin) if len(group) == 2 else []
    if isinstance(form, Middle):
        return _middle(group, scene, margin)
    anchors = _denoted(form.anchor, scene, margin)  # type: ignore[union-attr]
    if len(anchors) != 1:
        return []
    group = [thing for thing in group if thing.id != anchors[0].id]
    return _related(form, group, anchors[0], scene, margin)


def _related(
    form: Form, group: list[Thing], anchor: Any, scene: Scene, margin: float
) -> list[Thing]:
    if isinstance(form, Beside):
        return [t for t in group if _beside(t, anchor, form.direction, scene, margin)]
    if isinstance(form, NextTo):
        return [t for t in group if t.gap(anchor) < CLOSE * scene.side + margin]
    if isinstance(form, Joined):
        return [t for t in group if t.id in anchor.joined]
    return _nearest(group, anchor, margin)


def _in_region(thing: Thing, scene: Scene, region: str, margin: float) -> bool:
    right, down = REGIONS[region]
    dx, dy = thing.x - scene.width / 2, thing.y - scene.height / 2
    if region == 'center':
        return abs(dx) < 0.18 * scene.width + margin and abs(dy) < 0.18 * scene.height + margin
    return (right == 0 or dx * right > -margin) and (down == 0 or dy * down > -margin)


_KEYS = {
    'left': lambda thing: thing.x,
    'right': lambda thing: -thing.x,
    'top': lambda thing: thing.y,
    'bottom': lambda thing: -thing.y,
    'smallest': lambda thing: thing.bulk,
    'largest': lambda thing: -thing.bulk,
}


def _ranked(group: list[Thing], order: str, rank: int, margin: float) -> list[Thing]:
    """Those that may be the ``rank``-th when each key is off by up to ``margin``."""
    keys = [_KEYS[order](thing) for thing in group]
    found = []
    for i, key in enumerate(keys):
        others = keys[:i] + keys[i + 1 :]
        surely = sum(other < key - margin for other in others)
        perhaps = sum(other < key + margin for other in others)
        if surely <= rank - 1 <= perhaps:
            found.append(group[i])
    return found


def _middle(group: list[Thing], scene: Scene, margin: float) -> list[Thing]:
    wide = max((t.x for t in group), default=0) - min((t.x for t in group), default=0)
    high = max((t.y for t in group), default=0) - min((t.y for t in group), default=0)
    if len(group) != 3 or high > 0.5 * wide + margin:
        return []
    off = {t.id: abs(t.x - scene.width / 2) for t in group}
    central = [t for t in group if all(off[t.id] < off[o] + margin for o in off if o != t.id)]
    return [t for t in _ranked(group, 'left', 2, margin) if t in central]


def _beside(thing: Thing, anchor: Thing, direction: str, scene: Scene, margin: float) -> bool:
    right, down = DIRECTIONS[direction]
    dx, dy = thing.x - anchor.x, thing.y - anchor.y
    along, across = dx * right + dy * down, abs(dx * down) + abs(dy * right)
    return along > 0.08 * scene.side - margin and across < along + margin


def _nearest(group: list[Thing], anchor: Thing, margin: float) -> list[Thing]:
    centre = [math.hypot(thing.x - anchor.x, thing.y - anchor.y) for thing in group]
    gap = [thing.gap(anchor) for thing in group]
    rows = range(len(group))
    return [
        group[i]
        for i in rows
        if all(centre[i] < centre[j] + margin and gap[i] < gap[j] + margin for j in rows if j != i)
    ]


def refers_clearly(form: Form, readings: Sequence[Scene], target: int) -> bool:
    """Whether ``form`` denotes exactly the thing ``target``, with the margin to spare, however
    the scene is read."""
    only = frozenset([target])
    return all(
        evaluate(form, scene, slack) == only
        for scene in readings
        for slack in (0.0, MARGIN, -MARGIN)
    )


def form_to_dict(form: Form) -> dict[str, Any]:
    """A form as builtin types, for a REFER file: ``{'form': class name, field: value, ...}``."""
    fields = {k: v for k, v in vars(form).items() if v is not None}
    nested = {k: form_to_dict(v) if k in ('of', 'anchor') else v for k, v in fields.items()}
    return {'form': type(form).__name__, **nested}


def form_from_dict(data: dict[str, Any], leaf: type) -> Form:
    """Inverse of :func:`form_to_dict`; ``leaf`` is the scene's class of descriptions."""
    classes = {c.__name__: c for c in (leaf, *KINDS)}
    fields = {
        k: form_from_dict(v, leaf) if isinstance(v, dict) else v
        for k, v in data.items()
        if k != 'form'
    }
    return classes[data['form']](**fields)
