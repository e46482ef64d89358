"""What things of a category are called, and what else the same word may mean.

A *noun* is a meaning with one or more spellings. The categories in ``sure`` are certainly meant by
it; those in ``perhaps`` may be meant by some (a van is a car or a truck; whoever labelled it chose
one): they count as rivals, never as targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Noun:
    """``words`` are spellings of one meaning, the usual ones repeated."""

    words: tuple[str, ...]
    sure: frozenset[str]
    perhaps: frozenset[str] = frozenset()


def noun(words: str, sure: str = '', perhaps: str = '') -> Noun:
    """From comma-separated lists; ``sure`` is by default the first word."""
    spellings, certain, doubtful = (
        tuple(part.strip() for part in text.split(',') if part.strip())
        for text in (words, sure, perhaps)
    )
    return Noun(spellings, frozenset(certain or spellings[:1]), frozenset(doubtful))


ANIMALS = 'bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe'
COCO_NOUNS = (
    noun('person, person, person, person, person, person, human', 'person'),
    noun('bicycle, bicycle, cycle', 'bicycle', 'motorcycle'),
    noun('car', 'car', 'truck, bus'),
    noun('motorcycle, motorcycle, motorbike', 'motorcycle', 'bicycle'),
    noun('bike', 'bicycle, motorcycle'),
    noun('plane, plane, airplane, aircraft', 'airplane'),
    noun('bus', 'bus', 'truck, train'),
    noun('train', 'train', 'bus'),
    noun('truck', 'truck', 'car, bus'),
    noun('vehicle', 'car, truck, bus', 'bicycle, motorcycle, airplane, train, boat'),
    noun('boat', 'boat'),
    noun('traffic light, traffic light, stoplight', 'traffic light'),
    noun('fire hydrant, hydrant', 'fire hydrant'),
    noun('stop sign', 'stop sign'),
    noun('parking meter, parking meter, meter', 'parking meter'),
    noun('bench', 'bench', 'chair, couch'),
    noun('bird', 'bird'),
    noun('cat, cat, kitty', 'cat'),
    noun('dog, dog, doggy', 'dog'),
    noun('horse', 'horse'),
    noun('sheep', 'sheep'),
    noun('cow', 'cow'),
    noun('elephant', 'elephant'),
    noun('bear', 'bear', 'teddy bear'),
    noun('zebra', 'zebra'),
    noun('giraffe', 'giraffe'),
    noun('animal', ANIMALS, 'teddy bear'),
    noun('backpack, backpack, rucksack', 'backpack', 'handbag, suitcase'),
    noun('umbrella, umbrella, parasol', 'umbrella'),
    noun('handbag, purse, handbag', 'handbag', 'backpack, suitcase'),
    noun('bag', 'handbag, backpack', 'suitcase'),
    noun('tie, tie, necktie', 'tie'),
    noun('suitcase, suitcase, luggage', 'suitcase', 'backpack, handbag'),
    noun('frisbee, frisbee, disc', 'frisbee'),
    noun('skis, pair of skis', 'skis'),
    noun('snowboard', 'snowboard', 'skateboard, surfboard, skis'),
    noun('ball', 'sports ball'),
    noun('kite', 'kite'),
    noun('bat, baseball bat', 'baseball bat'),
    noun('glove, baseball glove, mitt', 'baseball glove'),
    noun('skateboard', 'skateboard', 'snowboard, surfboard'),
    noun('surfboard', 'surfboard', 'snowboard, skateboard'),
    noun('board', 'skateboard, surfboard, snowboard', 'skis'),
    noun('racket, tennis racket, racquet', 'tennis racket'),
    noun('bottle', 'bottle', 'vase'),
    noun('wine glass', 'wine glass', 'cup'),
    noun('glass', 'wine glass', 'cup, vase, bottle, bowl'),
    noun('cup', 'cup', 'wine glass, bowl'),
    noun('fork', 'fork', 'spoon, knife'),
    noun('knife', 'knife', 'fork, spoon'),
    noun('spoon', 'spoon', 'fork, knife'),
    noun('utensil', 'fork, knife, spoon'),
    noun('bowl', 'bowl', 'cup'),
    noun('banana', 'banana'),
    noun('apple', 'apple', 'orange'),
    noun('sandwich', 'sandwich', 'hot dog'),
    noun('orange', 'orange', 'apple'),
    noun('broccoli', 'broccoli'),
    noun('carrot', 'carrot'),
    noun('hot dog, hot dog, hotdog', 'hot dog', 'sandwich'),
    noun('pizza', 'pizza'),
    noun('donut, donut, doughnut', 'donut', 'cake'),
    noun('cake', 'cake', 'donut'),
    noun('chair, chair, seat', 'chair', 'couch, bench'),
    noun('couch, sofa', 'couch', 'chair, bed, bench'),
    noun('plant, plant, potted plant', 'potted plant'),
    noun('bed', 'bed', 'couch'),
    noun('table', 'dining table', 'bench'),
    noun('toilet', 'toilet'),
    noun('tv, tv, television', 'tv', 'laptop'),
    noun('screen', 'tv', 'laptop, cell phone'),
    noun('laptop, laptop, laptop computer', 'laptop', 'keyboard, tv'),
    noun('computer', 'laptop', 'tv, keyboard'),
    noun('mouse, computer mouse', 'mouse'),
    noun('remote, remote control', 'remote', 'cell phone'),
    noun('keyboard', 'keyboard', 'laptop'),
    noun('phone, cell phone, cellphone', 'cell phone', 'remote'),
    noun('microwave', 'microwave', 'oven, toaster'),
    noun('oven, stove', 'oven', 'microwave'),
    noun('toaster', 'toaster', 'oven, microwave'),
    noun('sink', 'sink'),
    noun('fridge, refrigerator', 'refrigerator'),
    noun('book', 'book'),
    noun('clock', 'clock'),
    noun('vase', 'vase', 'bottle, cup, potted plant'),
    noun('scissors, pair of scissors', 'scissors'),
    noun('teddy bear, teddy, stuffed bear', 'teddy bear', 'bear'),
    noun('hair dryer, blow dryer', 'hair drier'),
    noun('toothbrush', 'toothbrush'),
)
COCO_NAMES = frozenset(name for entry in COCO_NOUNS for name in entry.sure)


class Vocabulary:
    """The nouns of a set of categories, by their first word.

    Categories of COCO have the nouns above. Any other is called by its name (in lower case, ``_``
    as a space). ``own`` adds to both.

    Args:
        categories: Names, as in the COCO file.
        own: Category -> ``{"synonyms": [...], "hypernyms": [...], "lookalikes": [...]}``, each
            optional. Synonyms are other spellings; the same hypernym of several categories means
            them all; lookalikes are categories that may be meant by the same words.

    Raises:
        ValueError: If ``own`` names an unknown category or key.
    """

    def __init__(
        self, categories: Iterable[str], own: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        names = list(dict.fromkeys(categories))
        own = own or {}
        _check_own(own, names)
        self.nouns: dict[str, Noun] = {}
        for entry in COCO_NOUNS:
            if entry.sure & set(names):
                self._add(_extended(entry, own))
        for name in names:
            if name not in COCO_NAMES:
                plain = ' '.join(name.lower().replace('_', ' ').split())
                self._add(_extended(Noun((plain,), frozenset([name])), own))
        for name, entry in own.items():
            for word in entry.get('hypernyms', ()):
                self._add(Noun((word,), frozenset([name])))

    def _add(self, entry: Noun) -> None:
        key = entry.words[0]
        known = self.nouns.get(key, Noun((), frozenset()))
        words = known.words + tuple(w for w in entry.words if not known.words or w != key)
        self.nouns[key] = Noun(words, known.sure | entry.sure, known.perhaps | entry.perhaps)

    def of(self, category: str, perhaps: bool) -> frozenset[str]:
        """Nouns that certainly (``perhaps``: or possibly) mean a thing of ``category``."""
        return frozenset(
            key
            for key, entry in self.nouns.items()
            if category in entry.sure or perhaps and category in entry.perhaps
        )


_OWN_KEYS = ('synonyms', 'hypernyms', 'lookalikes')


def _check_own(own: Mapping[str, Mapping[str, Any]], names: list[str]) -> None:
    for name, entry in own.items():
        if name not in names:
            raise ValueError(f'{name!r} is no category; categories: {", ".join(names)}')
        lists = isinstance(entry, Mapping) and all(isinstance(v, list) for v in entry.values())
        if not lists or set(entry) - set(_OWN_KEYS):
            raise ValueError(f'{name!r}: expected lists {", ".join(_OWN_KEYS)}, got {entry}')


def _extended(entry: Noun, own: Mapping[str, Mapping[str, Any]]) -> Noun:
    """Synonyms and lookalikes of one category go to the nouns that mean it alone."""
    extra = own.get(next(iter(entry.sure)), {}) if len(entry.sure) == 1 else {}
    words = entry.words + tuple(extra.get('synonyms', ()))
    return Noun(words, entry.sure, entry.perhaps | frozenset(extra.get('lookalikes', ())))
