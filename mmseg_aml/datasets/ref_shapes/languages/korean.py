"""Korean. Colours and textures before the shape; places as clauses ("... 있는") before the noun."""

from __future__ import annotations

import random

from ..scene import Is
from .modifiers_first import Tables

NOUNS = {
    None: ('도형', '물체', '것'),
    'circle': ('원', '동그라미'),
    'square': ('사각형', '네모'),
    'triangle': ('삼각형', '세모'),
    'star': ('별',),
    'cross': ('십자가', '십자 모양'),
    'ring': ('고리', '도넛'),
    'oval': ('타원', '타원형'),
    'heart': ('하트',),
}
COLORS = {
    'red': ('빨간', '빨간색'),
    'orange': ('주황색',),
    'yellow': ('노란', '노란색'),
    'green': ('초록색', '녹색'),
    'blue': ('파란', '파란색'),
    'purple': ('보라색',),
    'white': ('흰', '하얀', '흰색'),
    'black': ('검은', '까만', '검은색'),
}
SIZES = {'small': ('작은', '조그만'), 'medium': ('중간 크기의',), 'large': ('큰', '커다란')}
TEXTURES = {
    'plain': ('무늬 없는', '민무늬'),
    'striped': ('줄무늬',),
    'dotted': ('점무늬', '물방울무늬'),
    'checkered': ('체크무늬', '바둑판무늬'),
}
SIDES = {'left': '왼쪽', 'right': '오른쪽', 'top': '위쪽', 'bottom': '아래쪽'}
CORNERS = {
    'top left': '왼쪽 위',
    'top right': '오른쪽 위',
    'bottom left': '왼쪽 아래',
    'bottom right': '오른쪽 아래',
}


def noun_phrase(form: Is, rng: random.Random) -> str:
    """Size, texture, colour, shape."""
    words = []
    if form.size:
        words.append(rng.choice(SIZES[form.size]))
    if form.texture:
        words.append(rng.choice(TEXTURES[form.texture]))
    if form.color:
        words.append(rng.choice(COLORS[form.color]))
    return ' '.join([*words, rng.choice(NOUNS[form.shape])])


TABLES = Tables(
    noun=noun_phrase,
    regions={
        **{key: (f'{side}에 있는 {{n}}', f'{side} {{n}}') for key, side in SIDES.items()},
        **{key: (f'{c}에 있는 {{n}}', f'{c} 구석의 {{n}}') for key, c in CORNERS.items()},
        'center': ('가운데 있는 {n}', '중앙에 있는 {n}', '한가운데의 {n}'),
    },
    ranks={
        **{
            key: (f'맨 {side} {{n}}', f'가장 {side}에 있는 {{n}}', f'제일 {side}에 있는 {{n}}')
            for key, side in SIDES.items()
        },
        'largest': ('가장 큰 {n}', '제일 큰 {n}'),
        'smallest': ('가장 작은 {n}', '제일 작은 {n}'),
    },
    ordinals={2: ('두 번째', '둘째'), 3: ('세 번째', '셋째')},
    ordinal={
        key: (f'{side}에서 {{o}} {{n}}', f'{side}부터 {{o}} {{n}}') for key, side in SIDES.items()
    },
    directions={
        'left of': ('{a}의 왼쪽에 있는 {n}', '{a} 왼편의 {n}'),
        'right of': ('{a}의 오른쪽에 있는 {n}', '{a} 오른편의 {n}'),
        'above': ('{a}의 위쪽에 있는 {n}', '{a}보다 위에 있는 {n}'),
        'below': ('{a}의 아래쪽에 있는 {n}', '{a}보다 아래에 있는 {n}'),
    },
    nearest=('{a}에 가장 가까운 {n}', '{a}에서 제일 가까운 {n}'),
)
