"""Templates of sentences about photographs, in the style of RefCOCO's annotators."""

from __future__ import annotations

from ..expressions.wording import Wording
from .vocabulary import Vocabulary

_ACROSS = (
    '{r} {n}',
    '{r} {n}',
    '{n} on {r}',
    '{n} on {r}',
    '{n} on the {r}',
    '{n} on the {r}',
    '{n} to the {r}',
    '{n} at {r}',
    '{n} on {r} side',
    '{n} on the {r} side',
    '{r} side {n}',
    '{n} {r}',
    'on the {r} {n}',
)
_UPDOWN = ('{r} {n}', '{n} at the {r}', '{n} on the {r}', '{n} on {r}', '{n} at {r}')
_FAR = (
    'far {r} {n}',
    '{n} on the far {r}',
    '{n} far {r}',
    '{n} furthest {r}',
    '{n} farthest to the {r}',
    '{n} all the way on the {r}',
    'first {n} from the {r}',
    '{n} closest to the {r} edge',
)
REGIONS = {
    'left': _ACROSS,
    'right': _ACROSS,
    'top': _UPDOWN,
    'bottom': _UPDOWN,
    'corner': (
        '{r} {n}',
        '{n} at {r}',
        '{n} on {r}',
        '{n} in the {r}',
        '{n} {r}',
        '{n} at the {r}',
    ),
    'center': (
        '{n} in the middle',
        '{n} in middle',
        'middle {n}',
        'center {n}',
        '{n} in the center',
        '{n} in center',
    ),
}
RANKS = {
    'left': ('leftmost {n}', *(t.replace('{r}', 'left') for t in _FAR)),
    'right': ('rightmost {n}', *(t.replace('{r}', 'right') for t in _FAR)),
    'top': ('top {n}', 'topmost {n}', 'highest {n}', '{n} at the very top', 'uppermost {n}'),
    'bottom': ('bottom {n}', 'lowest {n}', 'bottommost {n}', '{n} at the very bottom'),
    'largest': ('biggest {n}', 'largest {n}', '{n} that is the biggest'),
    'smallest': ('smallest {n}', 'littlest {n}', 'tiniest {n}'),
}
OF_TWO = {
    **{side: (f'{side} {{n}}', f'{{n}} on the {side}', f'{{n}} more to the {side}',
              f'{{n}} to the {side}') for side in ('left', 'right')},
    'top': ('top {n}', 'upper {n}', 'higher {n}', '{n} that is higher up'),
    'bottom': ('bottom {n}', 'lower {n}', '{n} that is lower down'),
    'largest': ('bigger {n}', 'larger {n}', 'big {n}', 'large {n}', 'biggest {n}', 'largest {n}'),
    'smallest': ('smaller {n}', 'small {n}', 'little {n}', 'smallest {n}', 'tiny {n}'),
}  # fmt: skip
ORDINALS = {
    2: ('second', 'second', '2nd'),
    3: ('third', 'third', '3rd'),
    4: ('fourth', '4th'),
}
ORDINAL = (
    '{o} {n} from the {r}',
    '{o} {n} from {r}',
    '{n} {o} from {r}',
    '{n} {o} from the {r}',
    '{o} from {r} {n}',
    '{o} {n} in from the {r}',
)
DIRECTIONS = {
    'left of': ('left of', 'to the left of', 'on the left side of', 'on left of'),
    'right of': ('right of', 'to the right of', 'on the right side of', 'on right of'),
    'above': ('above', 'over', 'higher than', 'up above'),
    'below': ('below', 'under', 'lower than', 'underneath'),
}


def wording(vocabulary: Vocabulary) -> Wording:
    """How photographs are spoken of, in the words of ``vocabulary``."""
    return Wording(
        noun=lambda form, rng, _: rng.choice(vocabulary.nouns[form.noun].words),
        regions=REGIONS,
        ranks=RANKS,
        ordinals=ORDINALS,
        ordinal=ORDINAL,
        directions=DIRECTIONS,
        nearest=('closest to', 'nearest to', 'nearest'),
        articles=0.3,
        of_two=OF_TWO,
        middle=('middle {n}', '{n} in the middle', '{n} in middle', '{n} in between'),
        next_to=('next to', 'beside', 'by', 'near', 'right next to', 'close to'),
        joined={'on': ('on', 'on top of', 'on'), 'with': ('with', 'with', 'that has')},
        bare_anchors=0.25,
    )
