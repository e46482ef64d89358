"""Which forms to try for a thing, and the choice among those that refer to it clearly."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

from .logic import (
    DIRECTIONS,
    PLACES,
    REGIONS,
    Beside,
    Form,
    Nearest,
    Ranked,
    Within,
    evaluate,
    refers_clearly,
)
from .scene import Description, Scene

D = TypeVar('D', bound=Description)


def placed(of: Description, count: int) -> list[Form]:
    """Forms of position of one of ``count`` >= 2 things that ``of`` describes.

    "Second" is only tried among three or more, where it is not the same as "rightmost".
    """
    ranks = range(1, 4 if count > 3 else 3 if count > 2 else 2)
    return [
        *(Within(of, region) for region in REGIONS),
        *(Ranked(of, order, rank) for order, rank in product(PLACES, ranks)),
    ]


def related(
    descriptions: Sequence[Description], anchors: Sequence[Description | Ranked]
) -> list[Form]:
    """Forms of place relative to another thing."""
    forms: list[Form] = []
    for of, anchor in product(descriptions, anchors):
        forms += [Beside(of, direction, anchor) for direction in DIRECTIONS]
        forms.append(Nearest(of, anchor))
    return forms


def shared(descriptions: Sequence[D], scene: Scene) -> list[D]:
    """Those that fit several things: only there does a place or a size matter."""
    return [of for of in descriptions if len(evaluate(of, scene)) > 1]


class FirstWords(random.Random):
    """Always the first wording, no optional words."""

    def choice(self, seq: Any) -> Any:
        """The first."""
        return seq[0]

    def random(self) -> float:
        """The upper end."""
        return 1.0

    def randrange(self, *_: Any) -> int:
        """The lower end."""
        return 0


def refer(
    readings: Sequence[Scene],
    target: int,
    forms_of_kind: Mapping[str, Callable[[], Sequence[Form]]],
    realise: Callable[[Form], str],
    rng: random.Random,
    count: int,
    kind_weights: Mapping[str, float],
) -> list[tuple[str, Form]]:
    """Up to ``count`` different sentences, with their forms, that clearly refer to ``target``.

    Args:
        readings: The scene, as it may be read.
        target: Id of a thing that is in all of them.
        forms_of_kind: Kind -> its forms to try, in this order.
        realise: A form in words.
        rng: Draws the kinds.
        count: Sentences wanted.
        kind_weights: Shares of the kinds aimed at; a kind of weight 0 does not occur.
    """
    waiting: dict[str, Sequence[Form]] = {}
    found: dict[str, Form] = {}
    weights = {kind: weight for kind, weight in kind_weights.items() if weight}
    while len(found) < count and weights:
        kind = rng.choices(list(weights), weights=list(weights.values()))[0]
        if kind not in waiting:
            waiting[kind] = forms_of_kind[kind]()
        rest = iter(waiting[kind])
        form = next((form for form in rest if refers_clearly(form, readings, target)), None)
        if form is None:
            del weights[kind]
            continue
        waiting[kind] = list(rest)
        found.setdefault(realise(form), form)
        weights[kind] /= 3  # the kinds of one object's sentences differ
    return list(found.items())
