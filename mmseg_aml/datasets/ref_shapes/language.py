"""English for logical forms, and the choice of forms that refer to an object."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from .logic import (
    DIRECTIONS,
    ORDERS,
    REGIONS,
    Beside,
    Form,
    Is,
    Nearest,
    Ranked,
    Within,
    evaluate,
    refers_clearly,
)
from .scene import Scene, Shape

NOUNS = {
    None: ('shape', 'object', 'thing', 'one'),
    'circle': ('circle', 'circle', 'disc'),
    'square': ('square', 'square', 'box'),
    'triangle': ('triangle',),
    'star': ('star',),
    'cross': ('cross', 'cross', 'plus sign'),
    'ring': ('ring', 'ring', 'donut'),
    'oval': ('oval', 'oval', 'ellipse'),
    'heart': ('heart',),
}
SIZE_WORDS = {
    'small': ('small', 'little', 'tiny'),
    'medium': ('medium sized', 'mid sized'),
    'large': ('large', 'big', 'huge'),
}
TEXTURE_WORDS = {
    'plain': ('plain', 'solid'),
    'striped': ('striped', 'stripy'),
    'dotted': ('dotted', 'spotted'),
    'checkered': ('checkered', 'checked'),
}
TEXTURE_TAILS = {'striped': 'with stripes', 'dotted': 'with dots', 'checkered': 'with checks'}
REGION_TEMPLATES = {
    'side': (
        '{n} on the {r}',
        '{n} on the {r} side',
        '{r} {n}',
        '{n} in the {r} half',
        '{n} at {r}',
    ),
    'corner': ('{r} {n}', '{n} in the {r}', '{n} on the {r}', '{n} at the {r}'),
    'center': ('{n} in the middle', '{n} in the center', 'center {n}', 'middle {n}'),
}
RANK_TEMPLATES = {
    'left': (
        'leftmost {n}',
        '{n} farthest left',
        '{n} furthest to the left',
        '{n} on the far left',
    ),
    'right': (
        'rightmost {n}',
        '{n} farthest right',
        '{n} furthest to the right',
        '{n} on the far right',
    ),
    'top': ('topmost {n}', 'highest {n}', '{n} closest to the top', '{n} at the very top'),
    'bottom': (
        'lowest {n}',
        'bottommost {n}',
        '{n} closest to the bottom',
        '{n} at the very bottom',
    ),
    'largest': ('largest {n}', 'biggest {n}'),
    'smallest': ('smallest {n}', 'tiniest {n}'),
}
ORDINALS = {2: ('second', '2nd'), 3: ('third', '3rd')}
ORDINAL_TEMPLATES = ('{o} {n} from the {r}', '{n} {o} from the {r}', '{o} {n} from {r}')
DIRECTION_WORDS = {
    'left of': ('left of', 'to the left of', 'on the left side of'),
    'right of': ('right of', 'to the right of', 'on the right side of'),
    'above': ('above', 'over', 'higher than'),
    'below': ('below', 'under', 'lower than'),
}
NEAREST_WORDS = ('closest to', 'nearest to', 'nearest', 'next to')
KIND_WEIGHTS = {'attribute': 0.4, 'position': 0.35, 'relation': 0.25}
"""Shares aimed at: RefCOCO's people use what a thing is and where it is far more than relations."""


def noun_phrase(form: Is, rng: random.Random, tail: bool = True) -> str:
    """Words for attributes, without article; ``tail`` allows '... with stripes' behind the noun."""
    words = [rng.choice(SIZE_WORDS[form.size])] if form.size else []
    end = []
    if form.texture and tail and form.texture in TEXTURE_TAILS and rng.random() < 0.3:
        end = [TEXTURE_TAILS[form.texture]]
    adjectives = [form.color] if form.color else []
    if form.texture and not end:
        adjectives.insert(
            rng.randrange(len(adjectives) + 1), rng.choice(TEXTURE_WORDS[form.texture])
        )
    return ' '.join([*words, *adjectives, rng.choice(NOUNS[form.shape]), *end])


def _ranked_phrase(form: Ranked, rng: random.Random, tail: bool) -> str:
    noun = noun_phrase(form.of, rng, tail)
    if form.rank == 1:
        templates = RANK_TEMPLATES[form.order]
        return (rng.choice(templates) if tail else templates[0]).format(n=noun)
    template = rng.choice(ORDINAL_TEMPLATES)
    return template.format(n=noun, r=form.order, o=rng.choice(ORDINALS[form.rank]))


def _region_phrase(form: Within, rng: random.Random) -> str:
    x, y = REGIONS[form.region]
    style = 'center' if not (x or y) else 'corner' if x and y else 'side'
    region = form.region.replace('top', 'upper') if x and rng.random() < 0.3 else form.region
    if y == 1 and x and rng.random() < 0.3:
        region = form.region.replace('bottom', 'lower')
    return rng.choice(REGION_TEMPLATES[style]).format(n=noun_phrase(form.of, rng), r=region)


def realise(form: Form, rng: random.Random) -> str:
    """One sentence for ``form``: lower case, words apart by one space, with or without article."""
    article = 'the ' if rng.random() < 0.6 else ''
    if isinstance(form, Is):
        return article + noun_phrase(form, rng)
    if isinstance(form, Within):
        return article + _region_phrase(form, rng)
    if isinstance(form, Ranked):
        return article + _ranked_phrase(form, rng, tail=True)
    # No tail in an anchor: 'with dots' or 'on the left' could then belong to either noun.
    words = DIRECTION_WORDS[form.direction] if isinstance(form, Beside) else NEAREST_WORDS
    anchor = form.anchor
    if isinstance(anchor, Is):
        other = noun_phrase(anchor, rng, tail=False)
    else:
        other = _ranked_phrase(anchor, rng, tail=False)
    return f'{article}{noun_phrase(form.of, rng, tail=False)} {rng.choice(words)} the {other}'


def descriptions(shape: Shape) -> list[Is]:
    """All attribute forms true of a shape. Size goes with the shape's name: a "small thing" is
    relative to other things, a small circle to circles."""
    forms = []
    for use in product((True, False), repeat=4):
        values = (shape.shape, shape.color, shape.texture, shape.size)
        form = Is(*(value if used else None for value, used in zip(values, use)))
        if form.shape or not form.size:
            forms.append(form)
    return forms


def _words(form: Is | Ranked) -> int:
    described = form.of if isinstance(form, Ranked) else form
    return sum(v is not None for v in vars(described).values())


def attribute_forms(scene: Scene, target: Shape, rng: random.Random) -> Sequence[Form]:
    """Attribute forms to try, the short ones first: people say little more than is needed."""
    forms: list[Is | Ranked] = [f for f in descriptions(target) if f != Is()]
    for order in ('largest', 'smallest'):
        several = [f for f in descriptions(target) if len(evaluate(f, scene)) > 1]
        forms += [Ranked(f, order) for f in several if f.shape and not f.size]
    forms.sort(key=lambda f: _words(f) + 1.5 * rng.random())
    return forms


def position_forms(scene: Scene, target: Shape, rng: random.Random) -> Sequence[Form]:
    """Position forms in random order. The place always matters: attributes alone fit two or more.

    "Second" is only tried among three or more, where it is not the same as "rightmost".
    """
    forms: list[Form] = []
    for of in descriptions(target):
        count = len(evaluate(of, scene))
        if count < 2 or of.size or _words(of) > 2:
            continue
        forms += [Within(of, region) for region in REGIONS]
        ranks = range(1, 4 if count > 3 else 3 if count > 2 else 2)
        forms += [Ranked(of, order, rank) for order, rank in product(ORDERS[:4], ranks)]
    rng.shuffle(forms)
    return forms


def anchors(scene: Scene, target: Shape) -> list[Is | Ranked]:
    """Short forms that single out another object."""
    found: list[Is | Ranked] = []
    for other in scene.shapes:
        if other.id == target.id:
            continue
        plain = [f for f in descriptions(other) if not f.size and 0 < _words(f) < 3 and f.shape]
        ends = [Ranked(f, order) for f in plain if not f.texture for order in ORDERS[:4]]
        unique = [f for f in plain if refers_clearly(f, scene, other.id)]
        found += sorted(unique, key=_words)[:2]
        found += [f for f in ends if len(evaluate(f.of, scene)) > 1][:4]
    return found


def relation_forms(scene: Scene, target: Shape, rng: random.Random) -> Sequence[Form]:
    """Relation forms in random order; again the relation always matters."""
    forms: list[Form] = []
    nouns = [f for f in descriptions(target) if not f.size and _words(f) < 3]
    nouns = [f for f in nouns if len(evaluate(f, scene)) > 1]
    for of, anchor in product(nouns, anchors(scene, target)):
        forms += [Beside(of, direction, anchor) for direction in DIRECTIONS]
        forms.append(Nearest(of, anchor))
    rng.shuffle(forms)
    return forms


FORMS_OF_KIND = {
    'attribute': attribute_forms,
    'position': position_forms,
    'relation': relation_forms,
}


class _FirstWords(random.Random):
    """Always the first wording, no optional words."""

    def choice(self, seq: Any) -> Any:
        return seq[0]

    def random(self) -> float:
        return 1.0

    def randrange(self, *_: Any) -> int:
        return 0


def refer(
    scene: Scene,
    target: int,
    rng: random.Random,
    count: int,
    kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    synonyms: bool = True,
) -> list[tuple[str, Form]]:
    """Up to ``count`` different sentences, with their forms, that clearly refer to ``target``.

    Args:
        kind_weights: Shares of the kinds aimed at; a kind of weight 0 does not occur.
        synonyms: Vary the wording; otherwise a form is always said in the same words.
    """
    words = rng if synonyms else _FirstWords()
    waiting: dict[str, Sequence[Form]] = {}
    found: dict[str, Form] = {}
    weights = {kind: weight for kind, weight in kind_weights.items() if weight}
    while len(found) < count and weights:
        kind = rng.choices(list(weights), weights=list(weights.values()))[0]
        if kind not in waiting:
            waiting[kind] = FORMS_OF_KIND[kind](scene, scene.shapes[target], rng)
        form = next((f for f in waiting[kind] if refers_clearly(f, scene, target)), None)
        if form is None:
            del weights[kind]
            continue
        waiting[kind] = waiting[kind][waiting[kind].index(form) + 1 :]
        found.setdefault(realise(form, words), form)
        weights[kind] /= 3  # the kinds of one object's sentences differ
    return list(found.items())
