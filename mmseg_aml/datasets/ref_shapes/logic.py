"""The meaning of a referring expression: small typed forms evaluated on a scene.

A form denotes a set of objects. Every comparison in it takes a ``slack`` (a fraction of the
picture's shorter side) by which its threshold is widened, or narrowed when negative. A form refers
to an object *clearly* when the set is exactly that object for slacks -m, 0 and +m: nobody has to
judge which of two nearly equal places is "further left".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Union

from .scene import Scene, Shape

MARGIN = 0.06
"""Slack, in shorter sides, that a clear reference must stand (about half a medium radius)."""

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
ORDERS = ('left', 'right', 'top', 'bottom', 'largest', 'smallest')


@dataclass(frozen=True)
class Is:
    """Objects with all the given attributes; ``Is()`` is every object."""

    shape: str | None = None
    color: str | None = None
    texture: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Within:
    """Those of ``of`` that lie in one of :data:`REGIONS` of the picture."""

    of: Is
    region: str


@dataclass(frozen=True)
class Ranked:
    """The ``rank``-th (from 1) of ``of`` in one of :data:`ORDERS`."""

    of: Is
    order: str
    rank: int = 1


@dataclass(frozen=True)
class Beside:
    """Those of ``of`` in one of :data:`DIRECTIONS`, within 45 degrees, from the one ``anchor``."""

    of: Is
    direction: str
    anchor: Is | Ranked


@dataclass(frozen=True)
class Nearest:
    """The one of ``of``, not the anchor itself, closest to the one ``anchor``: both from centre to
    centre and from edge to edge (of the bounding circles), as people may mean either."""

    of: Is
    anchor: Is | Ranked


Form = Union[Is, Within, Ranked, Beside, Nearest]
KINDS = {
    Is: 'attribute',
    Within: 'position',
    Ranked: 'position',
    Beside: 'relation',
    Nearest: 'relation',
}


def kind_of(form: Form) -> str:
    """'attribute', 'position' or 'relation'. Being the largest is an attribute, not a place."""
    if isinstance(form, Ranked) and form.order in ('largest', 'smallest'):
        return 'attribute'
    return KINDS[type(form)]


def evaluate(form: Form, scene: Scene, slack: float = 0.0) -> frozenset[int]:
    """Ids of the objects of ``scene`` that ``form`` denotes.

    Args:
        slack: widening (> 0) or narrowing (< 0) of every threshold, in shorter sides.
    """
    margin = slack * scene.side
    if isinstance(form, Is):
        wanted = [(k, v) for k, v in vars(form).items() if v is not None]
        return frozenset(s.id for s in scene.shapes if all(getattr(s, k) == v for k, v in wanted))
    group = [scene.shapes[i] for i in sorted(evaluate(form.of, scene, slack))]
    if isinstance(form, Within):
        return frozenset(s.id for s in group if _in_region(s, scene, form.region, margin))
    if isinstance(form, Ranked):
        return _ranked(group, form, margin)
    anchors = evaluate(form.anchor, scene, slack)
    if len(anchors) != 1:
        return frozenset()
    anchor = scene.shapes[min(anchors)]
    group = [s for s in group if s.id != anchor.id]
    if isinstance(form, Beside):
        return frozenset(s.id for s in group if _beside(s, anchor, form.direction, scene, margin))
    return _nearest(group, anchor, margin)


def _in_region(s: Shape, scene: Scene, region: str, margin: float) -> bool:
    right, down = REGIONS[region]
    dx, dy = s.x - scene.width / 2, s.y - scene.height / 2
    if region == 'center':
        return abs(dx) < 0.18 * scene.width + margin and abs(dy) < 0.18 * scene.height + margin
    return (right == 0 or dx * right > -margin) and (down == 0 or dy * down > -margin)


def _ranked(group: list[Shape], form: Ranked, margin: float) -> frozenset[int]:
    keys = {
        'left': lambda s: s.x,
        'right': lambda s: -s.x,
        'top': lambda s: s.y,
        'bottom': lambda s: -s.y,
        # Radii differ less than places do: tripled, the common margin separates the size classes.
        'smallest': lambda s: 3 * s.radius,
        'largest': lambda s: -3 * s.radius,
    }
    key = {s.id: keys[form.order](s) for s in group}
    found = set()
    for i, k in key.items():
        others = [v for j, v in key.items() if j != i]
        surely, perhaps = sum(v < k - margin for v in others), sum(v < k + margin for v in others)
        if surely <= form.rank - 1 <= perhaps:
            found.add(i)
    return frozenset(found)


def _beside(s: Shape, anchor: Shape, direction: str, scene: Scene, margin: float) -> bool:
    right, down = DIRECTIONS[direction]
    dx, dy = s.x - anchor.x, s.y - anchor.y
    along, across = dx * right + dy * down, abs(dx * down) + abs(dy * right)
    return along > 0.08 * scene.side - margin and across < along + margin


def _nearest(group: list[Shape], anchor: Shape, margin: float) -> frozenset[int]:
    centre = {s.id: math.hypot(s.x - anchor.x, s.y - anchor.y) for s in group}
    edge = {s.id: centre[s.id] - s.radius for s in group}
    return frozenset(
        i
        for i in centre
        if all(
            centre[i] < centre[j] + margin and edge[i] < edge[j] + margin for j in centre if j != i
        )
    )


def refers_clearly(form: Form, scene: Scene, target: int) -> bool:
    """Whether ``form`` denotes exactly the object ``target``, with the margin to spare."""
    only = frozenset([target])
    return all(evaluate(form, scene, slack) == only for slack in (0.0, MARGIN, -MARGIN))


def form_to_dict(form: Form) -> dict:
    """A form as builtin types, for a REFER file: ``{'form': class name, field: value, ...}``."""
    fields = {k: v for k, v in vars(form).items() if v is not None}
    nested = {k: form_to_dict(v) if k in ('of', 'anchor') else v for k, v in fields.items()}
    return {'form': type(form).__name__, **nested}


def form_from_dict(data: dict) -> Form:
    """Inverse of :func:`form_to_dict`."""
    classes = {c.__name__: c for c in KINDS}
    fields = {k: form_from_dict(v) if isinstance(v, dict) else v for k, v in data.items()}
    return classes[fields.pop('form')](**fields)
