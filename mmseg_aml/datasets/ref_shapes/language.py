"""English for RefShapes, and the forms that are tried for a shape."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

from ..expressions import choice, wording
from ..expressions.choice import FirstWords, placed, related, shared
from ..expressions.logic import PLACES, Form, Ranked, evaluate, refers_clearly
from .languages import OTHERS
from .scene import Is, Scene, Shape

LANGUAGES = ('en', *OTHERS)
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
_SIDE = (
    '{n} on the {r}',
    '{n} on the {r} side',
    '{r} {n}',
    '{n} in the {r} half',
    '{n} at {r}',
)
REGION_TEMPLATES = {
    **dict.fromkeys(PLACES, _SIDE),
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


WORDING = wording.Wording(
    noun=noun_phrase,
    regions=REGION_TEMPLATES,
    ranks=RANK_TEMPLATES,
    ordinals=ORDINALS,
    ordinal=ORDINAL_TEMPLATES,
    directions=DIRECTION_WORDS,
    nearest=NEAREST_WORDS,
    articles=0.6,
)


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
    several = shared(descriptions(target), scene)
    for order in ('largest', 'smallest'):
        forms += [Ranked(f, order) for f in several if f.shape and not f.size]
    forms.sort(key=lambda f: _words(f) + 1.5 * rng.random())
    return forms


def position_forms(scene: Scene, target: Shape, rng: random.Random) -> Sequence[Form]:
    """Position forms in random order. Attributes alone fit two or more, so the place matters."""
    forms: list[Form] = []
    for of in shared(descriptions(target), scene):
        if not of.size and _words(of) < 3:
            forms += placed(of, len(evaluate(of, scene)))
    rng.shuffle(forms)
    return forms


def anchors(scene: Scene, target: Shape) -> list[Is | Ranked]:
    """Short forms that single out another object."""
    found: list[Is | Ranked] = []
    for other in scene.shapes:
        if other.id == target.id:
            continue
        plain = [f for f in descriptions(other) if not f.size and 0 < _words(f) < 3 and f.shape]
        unique = [f for f in plain if refers_clearly(f, [scene], other.id)]
        found += sorted(unique, key=_words)[:2]
        ends = [f for f in shared(plain, scene) if not f.texture]
        found += [Ranked(f, order) for f in ends for order in PLACES][:4]
    return found


def relation_forms(scene: Scene, target: Shape, rng: random.Random) -> Sequence[Form]:
    """Relation forms in random order; again the relation always matters."""
    nouns = [f for f in descriptions(target) if not f.size and _words(f) < 3]
    forms = related(shared(nouns, scene), anchors(scene, target))
    rng.shuffle(forms)
    return forms


def refer(
    scene: Scene,
    target: int,
    rng: random.Random,
    count: int,
    kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    synonyms: bool = True,
    language: str = 'en',
) -> list[tuple[str, Form]]:
    """Up to ``count`` different sentences, with their forms, that clearly refer to ``target``.

    Args:
        kind_weights: Shares of the kinds aimed at; a kind of weight 0 does not occur.
        synonyms: Vary the wording; otherwise a form is always said in the same words.
        language: ``'en'``, or a key of :data:`languages.OTHERS`; the forms are the same.
    """
    realise = OTHERS.get(language, partial(wording.realise, wording=WORDING))
    words = rng if synonyms else FirstWords()
    makers = dict(attribute=attribute_forms, position=position_forms, relation=relation_forms)
    shape = scene.shapes[target]
    return choice.refer(
        [scene],
        target,
        {kind: partial(make, scene, shape, rng) for kind, make in makers.items()},
        lambda form: realise(form, words),
        rng,
        count,
        kind_weights,
    )
