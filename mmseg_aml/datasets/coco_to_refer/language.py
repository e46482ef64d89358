"""Which forms are tried for the things of a photograph."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..expressions import choice
from ..expressions.choice import placed, related, shared
from ..expressions.logic import (
    ORDERS,
    PLACES,
    Form,
    Joined,
    Middle,
    NextTo,
    OfTwo,
    Ranked,
    Within,
    evaluate,
    kind_of,
    refers_clearly,
)
from ..expressions.wording import realise
from .photo import Photo, PhotoThing
from .templates import wording


@dataclass(frozen=True)
class Called:
    """Things that the noun ``noun`` of a vocabulary means."""

    noun: str

    def fits(self, thing: PhotoThing) -> bool:
        """Whether ``thing`` is called so."""
        return self.noun in thing.nouns


KIND_WEIGHTS = {'category': 0.25, 'position': 0.4, 'ordinal': 0.1, 'size': 0.1, 'relation': 0.15}
"""Shares aimed at, of the kinds that :func:`photo_kind` tells apart."""

SEATS = frozenset(
    'bench,chair,couch,bed,horse,elephant,bicycle,motorcycle,skateboard,surfboard,snowboard,skis,'
    'toilet,suitcase'.split(',')
)
SITTERS = frozenset('person,cat,dog,teddy bear,bird'.split(','))
CARRIED = frozenset(
    'umbrella,backpack,handbag,tie,suitcase,frisbee,sports ball,baseball bat,baseball glove,'
    'tennis racket,kite,bottle,wine glass,cup,cell phone,laptop,remote,pizza,donut,hot dog,'
    'sandwich,teddy bear,skateboard,surfboard,snowboard,skis,scissors,toothbrush,banana'.split(',')
)
MOST_ALIKE = 9
"""With more things of a noun than this, annotators stop labelling, and people stop counting."""
PILED = frozenset('book,banana,apple,orange,carrot,broccoli'.split(','))
MOST_PILED = 2
"""Of what lies in piles and rows, annotators label a few, or the whole pile as one."""


def photo_kind(form: Form) -> str:
    """'category', 'position', 'ordinal', 'size' or 'relation'."""
    if isinstance(form, Called):
        return 'category'
    if isinstance(form, Ranked) and form.rank > 1:
        return 'ordinal'
    return 'size' if kind_of(form) == 'attribute' else kind_of(form)


class Speaker:
    """Finds sentences for the things of one photograph.

    Args:
        photo: The photograph.
        rng: Draws forms and words.
        kind_weights: Kind -> share aimed at; 0 leaves it out.
    """

    def __init__(
        self, photo: Photo, rng: random.Random, kind_weights: Mapping[str, float] = KIND_WEIGHTS
    ) -> None:
        self.photo, self.rng, self.kind_weights = photo, rng, kind_weights
        self.scene, self.fullest = photo.readings[0], photo.readings[1]
        self.wording = wording(photo.vocabulary)
        self._named = {thing.id: self._names(thing) for thing in self.scene.things}
        self._anchors = self._all_anchors()

    def refer(self, target: int, count: int) -> list[tuple[str, Form]]:
        """Up to ``count`` sentences that mean ``target`` alone, with their forms."""
        makers = dict(
            category=self._category_forms,
            position=self._position_forms,
            ordinal=self._ordinal_forms,
            size=self._size_forms,
            relation=self._relation_forms,
        )
        if not self._named.get(target):
            return []
        return choice.refer(
            self.photo.readings,
            target,
            {kind: partial(self._shuffled, make, target) for kind, make in makers.items()},
            lambda form: realise(form, self.rng, self.wording),
            self.rng,
            count,
            self.kind_weights,
        )

    def _names(self, thing: PhotoThing) -> list[Called]:
        """What it may be called, unless there are too many alike."""
        most = MOST_PILED if thing.category in PILED else MOST_ALIKE
        names = [Called(noun) for noun in sorted(thing.nouns)]
        return [name for name in names if len(evaluate(name, self.scene)) <= most]

    def _shuffled(self, make: Any, target: int) -> list[Form]:
        forms = make(target)
        self.rng.shuffle(forms)
        return forms

    def _shared(self, target: int) -> list[Called]:
        return shared(self._named[target], self.fullest)

    def _count(self, of: Called) -> int:
        """How many there are, doubtful ones included."""
        return len(evaluate(of, self.fullest))

    def _category_forms(self, target: int) -> list[Form]:
        return list(self._named[target])

    def _position_forms(self, target: int) -> list[Form]:
        forms: list[Form] = []
        for of in self._shared(target):
            count = self._count(of)
            ranked = [form for form in placed(of, count) if not _is_ordinal(form)]
            if count == 2:  # "leftmost" is said of three or more
                forms += [form for form in ranked if isinstance(form, Within)]
                forms += [OfTwo(of, place) for place in PLACES] * 2
            else:
                forms += ranked
            if count == 3:
                forms += [Middle(of)] * 2
        return forms

    def _ordinal_forms(self, target: int) -> list[Form]:
        """Counted from the nearer side, up to the fourth."""
        return [
            Ranked(of, side, rank)
            for of in self._shared(target)
            for side in ('left', 'right')
            for rank in range(2, min((self._count(of) + 1) // 2, 4) + 1)
        ]

    def _size_forms(self, target: int) -> list[Form]:
        return [
            (OfTwo if self._count(of) == 2 else Ranked)(of, order)
            for of in self._shared(target)
            for order in ORDERS
            if order not in PLACES
        ]

    def _relation_forms(self, target: int) -> list[Form]:
        nouns = self._shared(target)
        category = self.photo.instances[target].category
        others = {
            id: found
            for id, found in self._anchors.items()
            if self.photo.instances[id].category != category
        }
        anchors = [anchor for found in others.values() for anchor in found]
        forms = related(nouns, anchors)
        forms += [NextTo(of, anchor) for of in nouns for anchor in anchors]
        for id, found in others.items():
            relation = _relation(category, self.photo.instances[id].category)
            plain = [anchor for anchor in found if isinstance(anchor, Called)]
            if relation:
                forms += [Joined(of, relation, anchor) for of in nouns for anchor in plain] * 4
        return forms

    def _all_anchors(self) -> dict[int, list[Called | Ranked]]:
        """Thing -> short forms that single it out."""
        found: dict[int, list[Called | Ranked]] = {}
        for thing, names in self._named.items():
            forms: list[Called | Ranked] = list(names)
            forms += [
                Ranked(of, place) for of in shared(names, self.fullest) for place in PLACES[:2]
            ]
            found[thing] = [f for f in forms if refers_clearly(f, self.photo.readings, thing)]
        return found


def _is_ordinal(form: Form) -> bool:
    return isinstance(form, Ranked) and form.rank > 1


def _relation(category: str, anchor: str) -> str | None:
    """How a thing of ``category`` is joined to ``anchor``, if that can be said."""
    if category in SITTERS and anchor in SEATS:
        return 'on'
    return 'with' if category == 'person' and anchor in CARRIED else None
