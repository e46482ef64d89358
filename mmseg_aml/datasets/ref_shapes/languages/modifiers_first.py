"""Sentences of languages that put everything before the noun (Korean, Chinese)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...expressions.logic import Beside, Form, Nearest, Ranked, Within
from ..scene import Is

Templates = Sequence[str]


@dataclass(frozen=True)
class Tables:
    """How a language says the forms of RefShapes.

    ``{n}`` is the noun phrase, ``{a}`` the thing it is described by, ``{o}`` an ordinal.
    The first template of ``ranks`` is also that of anchors: it must be a phrase without a
    clause, so that nobody reads a later word into it.
    """

    noun: Callable[[Is, random.Random], str]
    regions: Mapping[str, Templates]
    ranks: Mapping[str, Templates]
    ordinals: Mapping[int, Templates]
    ordinal: Mapping[str, Templates]
    directions: Mapping[str, Templates]
    nearest: Templates


def realise(form: Form, rng: random.Random, tables: Tables) -> str:
    """One sentence for ``form``."""
    if isinstance(form, Is):
        return tables.noun(form, rng)
    if isinstance(form, Within):
        return rng.choice(tables.regions[form.region]).format(n=tables.noun(_is(form.of), rng))
    if isinstance(form, Ranked):
        return _ranked(form, rng, tables, anchor=False)
    if isinstance(form, (Beside, Nearest)):
        templates = tables.directions[form.direction] if isinstance(form, Beside) else None
        other = form.anchor
        if isinstance(other, Ranked):
            anchor = _ranked(other, rng, tables, anchor=True)
        else:
            anchor = tables.noun(_is(other), rng)
        noun = tables.noun(_is(form.of), rng)
        return rng.choice(templates or tables.nearest).format(n=noun, a=anchor)
    raise TypeError(f'RefShapes has no sentence for {type(form).__name__}')


def _ranked(form: Ranked, rng: random.Random, tables: Tables, *, anchor: bool) -> str:
    noun = tables.noun(_is(form.of), rng)
    if form.rank == 1:
        templates = tables.ranks[form.order]
        return (templates[0] if anchor else rng.choice(templates)).format(n=noun)
    ordinal = rng.choice(tables.ordinals[form.rank])
    return rng.choice(tables.ordinal[form.order]).format(n=noun, o=ordinal)


def _is(described: object) -> Is:
    assert isinstance(described, Is)
    return described
