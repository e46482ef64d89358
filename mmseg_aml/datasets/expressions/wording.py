"""Forms in English: tables of templates, and how they are filled."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .logic import KINDS, REGIONS, Beside, Form, Joined, Middle, NextTo, OfTwo, Ranked, Within

Templates = Sequence[str]


@dataclass(frozen=True)
class Wording:
    """How one world speaks. In templates, ``{n}`` is the noun phrase, ``{r}`` a side or corner,
    ``{o}`` an ordinal.

    Args:
        noun: Words of a description, without article; the flag allows words behind the noun.
        regions: Side, corner or ``center`` -> templates.
        ranks: Order -> templates of the first.
        ordinals: Rank -> words.
        ordinal: Templates of the second, third, ...
        directions: Direction -> words between the two nouns.
        nearest: Words between the two nouns.
        articles: Share of sentences that begin with "the".
        of_two: Order -> templates of one of two.
        middle: Templates of the middle one of three.
        next_to: Words between the two nouns.
        joined: Relation -> words between the two nouns.
        bare_anchors: Share of anchors without "the".
    """

    noun: Callable[[Any, random.Random, bool], str]
    regions: Mapping[str, Templates]
    ranks: Mapping[str, Templates]
    ordinals: Mapping[int, Templates]
    ordinal: Templates
    directions: Mapping[str, Templates]
    nearest: Templates
    articles: float
    of_two: Mapping[str, Templates] | None = None
    middle: Templates = ()
    next_to: Templates = ()
    joined: Mapping[str, Templates] | None = None
    bare_anchors: float = 0.0


def realise(form: Form, rng: random.Random, wording: Wording) -> str:
    """One sentence for ``form``: lower case, words apart by one space, with or without article."""
    article = 'the ' if rng.random() < wording.articles else ''
    if isinstance(form, Within):
        return article + _region_phrase(form, rng, wording)
    if isinstance(form, Ranked):
        return article + _ranked_phrase(form, rng, wording, tail=True)
    if isinstance(form, OfTwo):
        template = rng.choice((wording.of_two or {})[form.order])
        return article + template.format(n=wording.noun(form.of, rng, True))
    if isinstance(form, Middle):
        return article + rng.choice(wording.middle).format(n=wording.noun(form.of, rng, True))
    if type(form) not in KINDS:
        return article + wording.noun(form, rng, True)
    return article + _related_phrase(form, rng, wording)


def _related_phrase(form: Any, rng: random.Random, wording: Wording) -> str:
    # No tail in an anchor: 'with dots' or 'on the left' could then belong to either noun.
    if isinstance(form, Beside):
        words = wording.directions[form.direction]
    elif isinstance(form, NextTo):
        words = wording.next_to
    elif isinstance(form, Joined):
        words = (wording.joined or {})[form.relation]
    else:
        words = wording.nearest
    if isinstance(form.anchor, Ranked):
        other = _ranked_phrase(form.anchor, rng, wording, tail=False)
    else:
        other = wording.noun(form.anchor, rng, False)
    bare = wording.bare_anchors and rng.random() < wording.bare_anchors
    noun = wording.noun(form.of, rng, False)
    return f'{noun} {rng.choice(words)} {"" if bare else "the "}{other}'


def _ranked_phrase(form: Ranked, rng: random.Random, wording: Wording, tail: bool) -> str:
    noun = wording.noun(form.of, rng, tail)
    if form.rank == 1:
        templates = wording.ranks[form.order]
        return (rng.choice(templates) if tail else templates[0]).format(n=noun)
    template = rng.choice(wording.ordinal)
    return template.format(n=noun, r=form.order, o=rng.choice(wording.ordinals[form.rank]))


def _region_phrase(form: Within, rng: random.Random, wording: Wording) -> str:
    x, y = REGIONS[form.region]
    style = 'corner' if x and y else form.region
    region = form.region.replace('top', 'upper') if x and rng.random() < 0.3 else form.region
    if y == 1 and x and rng.random() < 0.3:
        region = form.region.replace('bottom', 'lower')
    template = rng.choice(wording.regions[style])
    return template.format(n=wording.noun(form.of, rng, True), r=region)
