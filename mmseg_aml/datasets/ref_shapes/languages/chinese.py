"""Chinese (simplified). No spaces; everything stands before the noun, bound by 的."""

from __future__ import annotations

import random

from ..scene import Is
from .modifiers_first import Tables

NOUNS = {
    None: ('图形', '物体', '东西'),
    'circle': ('圆形', '圆'),
    'square': ('正方形', '方块'),
    'triangle': ('三角形',),
    'star': ('星形', '五角星'),
    'cross': ('十字', '十字形'),
    'ring': ('圆环', '环形'),
    'oval': ('椭圆', '椭圆形'),
    'heart': ('心形', '爱心'),
}
COLORS = {
    'red': ('红色', '红'),
    'orange': ('橙色', '橘色'),
    'yellow': ('黄色', '黄'),
    'green': ('绿色', '绿'),
    'blue': ('蓝色', '蓝'),
    'purple': ('紫色',),
    'white': ('白色', '白'),
    'black': ('黑色', '黑'),
}
SIZES = {'small': ('小', '小号的'), 'medium': ('中等大小的',), 'large': ('大', '大号的')}
TEXTURES = {
    'plain': ('纯色的', '没有花纹的'),
    'striped': ('条纹', '带条纹的'),
    'dotted': ('带圆点的', '圆点花纹的'),
    'checkered': ('格子', '带格子的'),
}
SIDES = {'left': '左', 'right': '右', 'top': '上', 'bottom': '下'}
CORNERS = {
    'top left': '左上角',
    'top right': '右上角',
    'bottom left': '左下角',
    'bottom right': '右下角',
}


def noun_phrase(form: Is, rng: random.Random) -> str:
    """Texture, size, colour, shape."""
    words = []
    if form.texture:
        words.append(rng.choice(TEXTURES[form.texture]))
    if form.size:
        words.append(rng.choice(SIZES[form.size]))
    if form.color:
        words.append(rng.choice(COLORS[form.color]))
    return ''.join([*words, rng.choice(NOUNS[form.shape])])


TABLES = Tables(
    noun=noun_phrase,
    regions={
        **{key: (f'{s}边的{{n}}', f'在{s}边的{{n}}', f'{s}侧的{{n}}') for key, s in SIDES.items()},
        'top': ('上边的{n}', '上方的{n}', '在上面的{n}'),
        'bottom': ('下边的{n}', '下方的{n}', '在下面的{n}'),
        **{key: (f'{c}的{{n}}', f'在{c}的{{n}}') for key, c in CORNERS.items()},
        'center': ('中间的{n}', '在正中间的{n}', '中央的{n}'),
    },
    ranks={
        **{key: (f'最{s}边的{{n}}', f'最靠{s}的{{n}}') for key, s in SIDES.items()},
        'largest': ('最大的{n}',),
        'smallest': ('最小的{n}',),
    },
    ordinals={2: ('第二个',), 3: ('第三个',)},
    ordinal={
        'left': ('左数{o}{n}', '从左边数{o}{n}'),
        'right': ('右数{o}{n}', '从右边数{o}{n}'),
        'top': ('从上往下{o}{n}', '从上面数{o}{n}'),
        'bottom': ('从下往上{o}{n}', '从下面数{o}{n}'),
    },
    directions={
        'left of': ('在{a}左边的{n}', '位于{a}左侧的{n}'),
        'right of': ('在{a}右边的{n}', '位于{a}右侧的{n}'),
        'above': ('在{a}上方的{n}', '位于{a}上面的{n}'),
        'below': ('在{a}下方的{n}', '位于{a}下面的{n}'),
    },
    nearest=('离{a}最近的{n}', '距离{a}最近的{n}'),
)
