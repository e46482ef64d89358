"""Sentences about several shapes, or about none, for the pictures of a RefShapes export.

What gRefCOCO adds to RefCOCO, with the same proof: a sentence about several shapes is one form
that clearly denotes all of them ("the red circles"), or two that clearly denote one each ("the
star and the leftmost ring"). A sentence about nothing is a sentence of another picture of the
split that clearly denotes nothing in this one, though its colour or its shape is there.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..expressions import wording
from ..expressions.choice import FirstWords
from ..expressions.logic import (
    MARGIN,
    REGIONS,
    Beside,
    Form,
    Nearest,
    Within,
    evaluate,
    form_from_dict,
    form_to_dict,
)
from ..refer_files import read_refs
from .language import WORDING, descriptions, noun_phrase
from .scene import Is, Scene, Shape

FOLDER = 'grefshapes'
KINDS = ('single', 'group', 'pair', 'none')
NO_TARGET = [-1]


@dataclass(frozen=True)
class Said:
    """A sentence: its text, its kind, and its forms, whose union is what it refers to."""

    text: str
    kind: str
    forms: tuple[Form, ...]


def clearly(form: Form, scene: Scene) -> frozenset[int] | None:
    """What ``form`` denotes with the margin to spare; None if that depends on the margin."""
    found = {evaluate(form, scene, slack) for slack in (0.0, MARGIN, -MARGIN)}
    return found.pop() if len(found) == 1 else None


def meant(forms: Sequence[Form], scene: Scene) -> frozenset[int] | None:
    """Ids of all shapes that the forms clearly denote; None if one of them is not clear."""
    denoted = [clearly(form, scene) for form in forms]
    if any(part is None for part in denoted):
        return None
    return frozenset().union(*(part for part in denoted if part is not None))


def plural(form: Any, rng: random.Random, tail: bool) -> str:
    """Words for attributes of several shapes, without article."""
    words = noun_phrase(form, rng, tail=False)
    return words + ('es' if words.endswith(('s', 'x')) else 's')


PLURAL = replace(WORDING, noun=plural)


def groups(scene: Scene, rng: random.Random, synonyms: bool) -> Iterator[Said]:
    """Sentences with one form for several shapes, in random order."""
    words = rng if synonyms else FirstWords()
    found = {form for shape in scene.shapes for form in descriptions(shape) if not form.size}
    several = [form for form in found if len(evaluate(form, scene)) > 1]
    forms: list[Form] = [form for form in several if form != Is()]
    forms += [Within(of, region) for of, region in product(several, REGIONS)]
    forms.sort(key=str)  # a set has no order of its own
    rng.shuffle(forms)
    for form in forms:
        denoted = clearly(form, scene)
        plain = form.of if isinstance(form, Within) else None
        # a place is only said where it matters
        matters = plain is None or denoted != evaluate(plain, scene)
        if denoted is not None and len(denoted) > 1 and matters:
            yield Said(wording.realise(form, words, PLURAL), 'group', (form,))


def pairs(singles: Sequence[tuple[str, Form, int]], rng: random.Random) -> Iterator[Said]:
    """Two sentences about different shapes in one, in random order."""
    joined = [
        (first, second)
        for first, second in product(singles, singles)
        # "left of the star and the ring" may be left of both
        if first[2] != second[2] and not isinstance(first[1], (Beside, Nearest))
    ]
    rng.shuffle(joined)
    for (text, form, _), (other_text, other, _) in joined:
        yield Said(f'{text} and {other_text}', 'pair', (form, other))


def nothings(
    scene: Scene, strangers: Sequence[tuple[str, Form]], rng: random.Random
) -> Iterator[Said]:
    """Sentences of other pictures that are about nothing in this one, in random order."""
    for text, form in rng.sample(strangers, len(strangers)):
        if clearly(form, scene) == frozenset() and _is_near_miss(form, scene):
            yield Said(text, 'none', (form,))


def _is_near_miss(form: Form, scene: Scene) -> bool:
    """The shape or the colour is there, and an anchor is one shape or none, never unclear."""
    leaf: Any = getattr(form, 'of', form)
    there = any(
        leaf.shape in (None, shape.shape) or leaf.color in (None, shape.color)
        for shape in scene.shapes
    )
    if isinstance(form, (Beside, Nearest)):
        anchors = clearly(form.anchor, scene)
        return there and anchors is not None and len(anchors) < 2
    return there


def sentences_of(
    scene: Scene,
    singles: Sequence[tuple[str, Form, int]],
    strangers: Sequence[tuple[str, Form]],
    rng: random.Random,
    synonyms: bool,
) -> list[Said]:
    """Half of a picture's own sentences, as many about several shapes, and half of that about none.

    Args:
        scene: What the picture shows.
        singles: Its sentences, with form and shape id.
        strangers: Sentences of other pictures, with their forms.
        rng: Draws.
        synonyms: Vary the wording.
    """
    count = max(2, len(singles) // 2)
    kept = rng.sample(list(singles), min(count, len(singles)))
    found = [Said(text, 'single', (form,)) for text, form, _ in kept]
    found += _further(found, groups(scene, rng, synonyms), (count + 1) // 2)
    found += _further(found, pairs(singles, rng), len(kept) + count - len(found))
    return found + _further(found, nothings(scene, strangers, rng), count // 2)


def _further(found: Sequence[Said], sentences: Iterator[Said], count: int) -> list[Said]:
    """The first ``count`` whose words are not used yet."""
    used, further = {said.text for said in found}, []
    for said in sentences:
        if len(further) >= count:
            break
        if said.text not in used:
            used.add(said.text)
            further.append(said)
    return further


def generalise(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    refs: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    synonyms: bool,
) -> list[dict[str, Any]]:
    """Refs in gRefCOCO's layout for the tables of a RefShapes export; same seed, same refs.

    Every ref has one sentence, with its ``kind`` of :data:`KINDS` and its ``forms``.
    """
    shapes: dict[int, list[Mapping[str, Any]]] = {image['id']: [] for image in images}
    for annotation in annotations:
        shapes[annotation['image_id']].append(annotation)
    own: dict[int, list[tuple[str, Form, int]]] = {image['id']: [] for image in images}
    split_of: dict[int, str] = {}
    by_split: dict[str, list[tuple[int, str, Form]]] = {}
    for ref in refs:
        image_id = ref['image_id']
        split_of[image_id] = ref['split']
        first = shapes[image_id][0]['id']
        for sentence in ref['sentences']:
            form = form_from_dict(sentence['form'], Is)
            own[image_id].append((sentence['raw'], form, ref['ann_id'] - first))
            by_split.setdefault(ref['split'], []).append((image_id, sentence['raw'], form))
    found: list[dict[str, Any]] = []
    for image in images:
        image_id = image['id']
        rng = random.Random(f'{seed}/generalised/{image["file_name"]}')
        scene = Scene(
            image['width'],
            image['height'],
            tuple(Shape(**annotation['scene']) for annotation in shapes[image_id]),
        )
        drawn = rng.choices(by_split[split_of[image_id]], k=60)
        strangers = [(text, form) for other, text, form in drawn if other != image_id]
        for said in sentences_of(scene, own[image_id], strangers, rng, synonyms):
            found.append(_ref(len(found), said, image, split_of[image_id], shapes[image_id], scene))
    return found


def _ref(
    number: int,
    said: Said,
    image: Mapping[str, Any],
    split: str,
    shapes: Sequence[Mapping[str, Any]],
    scene: Scene,
) -> dict[str, Any]:
    targets = meant(said.forms, scene)
    if targets is None:
        raise AssertionError(f'{said} is not clear in {image["file_name"]}')
    chosen = [shapes[i] for i in sorted(targets)]
    return dict(
        ref_id=number,
        ann_id=[a['id'] for a in chosen] or NO_TARGET,
        category_id=[a['category_id'] for a in chosen] or NO_TARGET,
        image_id=image['id'],
        split=split,
        file_name=image['file_name'],
        sent_ids=[number],
        sentences=[
            dict(
                sent_id=number,
                raw=said.text,
                sent=said.text,
                tokens=said.text.split(),
                kind=said.kind,
                forms=[form_to_dict(form) for form in said.forms],
            )
        ],
    )


def add_generalised(
    root: str | Path, *, seed: int = 0, synonyms: bool = True
) -> dict[str, dict[str, int]]:
    """Write ``grefshapes/{grefs(unc).json, instances.json}`` beside ``refshapes`` of an export.

    Args:
        root: Folder of the export.
        seed: Same seed, same files.
        synonyms: Vary the wording of what is new.

    Returns:
        Split -> number of sentences of each of :data:`KINDS`.

    Raises:
        FileNotFoundError: If ``root`` holds no export.
    """
    source = Path(root) / 'refshapes'
    tables = json.loads((source / 'instances.json').read_text())
    singles = read_refs(source / 'refs(unc).p')
    refs = generalise(
        tables['images'], tables['annotations'], singles, seed=seed, synonyms=synonyms
    )
    folder = Path(root) / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / 'instances.json').write_text(json.dumps(tables))
    (folder / 'grefs(unc).json').write_text(json.dumps(refs))
    counts: dict[str, dict[str, int]] = {}
    for ref in refs:
        row = counts.setdefault(ref['split'], dict.fromkeys(KINDS, 0))
        row[ref['sentences'][0]['kind']] += 1
    return counts
