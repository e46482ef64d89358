"""Write RefShapes as a REFER data set that the ordinary reader takes."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from ..expressions.logic import Form, form_to_dict, kind_of
from .drawing import draw
from .generalised import add_generalised
from .language import KIND_WEIGHTS, LANGUAGES, refer
from .scene import HELD_OUT, MIN_VISIBLE, SHAPES, Scene, sample_scene

SPLITS = ('train', 'val', 'testA', 'testB')
MIN_SIDE = 64


@dataclass(frozen=True)
class Example:
    """One picture: uint8 RGB (H, W, 3); masks bool (N, H, W); sentences of each target's id."""

    scene: Scene
    picture: np.ndarray
    masks: np.ndarray
    sentences: dict[int, list[tuple[str, Form]]]


def make_example(
    seed: int,
    split: str,
    index: int,
    width: int,
    height: int,
    *,
    most_shapes: int = 10,
    scale: float = 1.0,
    kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    synonyms: bool = True,
    language: str = 'en',
) -> Example:
    """Picture ``index`` of ``split``: a function of its arguments alone, on any worker.

    Scenes with a shape less than 70 % visible, or with fewer than two objects that can be referred
    to, are drawn again.
    """
    rng = random.Random(f'{seed}/{split}/{index}')
    held_out = split == 'testB'
    while True:
        scene = sample_scene(rng, width, height, held_out, most_shapes, scale)
        picture, masks, shares = draw(scene, np.random.default_rng(rng.getrandbits(64)))
        if shares.min() < MIN_VISIBLE:
            continue
        targets = [s.id for s in scene.shapes if not held_out or (s.color, s.shape) in HELD_OUT]
        targets = rng.sample(targets, min(len(targets), rng.randint(2, 4)))
        sentences = {i: refer(scene, i, rng, 3, kind_weights, synonyms, language) for i in targets}
        sentences = {i: found for i, found in sentences.items() if len(found) > 1}
        if len(sentences) > 1:
            return Example(scene, picture, masks, sentences)


def _write_example(
    job: tuple[str, int], *, folder: Path, seed: int, size: tuple[int, int], **difficulty: Any
) -> tuple:
    """Worker: write the picture, return what the annotation files need (no pixels)."""
    split, index = job
    example = make_example(seed, split, index, *size, **difficulty)
    name = f'RefShapes_{split}_{index:06d}.png'
    Image.fromarray(example.picture).save(folder / name)
    rles = coco_mask.encode(np.asfortranarray(example.masks.transpose(1, 2, 0).astype(np.uint8)))
    return split, name, example.scene, list(rles), example.sentences


class ReferTables:
    """Collects images, annotations and refs, and gives out their ids."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.refs: list[dict[str, Any]] = []
        self.sentences = 0

    def add(self, split: str, name: str, scene: Scene, rles: list, sentences: dict) -> None:
        """Append one picture; ``rles`` per shape, ``sentences`` per target shape id."""
        image_id, first = len(self.images) + 1, len(self.annotations) + 1
        self.images.append(
            dict(id=image_id, file_name=name, width=scene.width, height=scene.height)
        )
        for shape, rle in zip(scene.shapes, rles):
            self.annotations.append(
                dict(
                    id=first + shape.id,
                    image_id=image_id,
                    category_id=SHAPES.index(shape.shape) + 1,
                    segmentation=dict(size=list(rle['size']), counts=rle['counts'].decode()),
                    area=int(coco_mask.area(rle)),
                    bbox=[float(v) for v in coco_mask.toBbox(rle)],
                    iscrowd=0,
                    scene=asdict(shape),
                )
            )
        for target, found in sentences.items():
            ids = list(range(self.sentences, self.sentences + len(found)))
            self.sentences += len(found)
            self.refs.append(
                dict(
                    ref_id=len(self.refs),
                    ann_id=first + target,
                    image_id=image_id,
                    category_id=SHAPES.index(scene.shapes[target].shape) + 1,
                    split=split,
                    file_name=name,
                    sent_ids=ids,
                    sentences=[
                        dict(
                            sent_id=i,
                            raw=text,
                            sent=text,
                            tokens=text.split(),
                            kind=kind_of(form),
                            form=form_to_dict(form),
                        )
                        for i, (text, form) in zip(ids, found)
                    ],
                )
            )

    def write(self, folder: Path) -> None:
        """Write ``instances.json`` and ``refs(unc).p`` (builtin types only) into ``folder``."""
        categories = [
            dict(id=i, name=name, supercategory='shape') for i, name in enumerate(SHAPES, 1)
        ]
        tables = dict(images=self.images, annotations=self.annotations, categories=categories)
        (folder / 'instances.json').write_text(json.dumps(tables))
        # Pickle's bytes depend on which equal strings are one object; in parsed JSON that is fixed.
        refs = json.loads(json.dumps(self.refs))
        (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))


@contextmanager
def _replacing(out: Path, overwrite: bool) -> Iterator[Path]:
    """A work folder beside ``out`` that takes its place when all went well, else vanishes."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not overwrite:
            raise FileExistsError(f'{out} exists and is not empty: choose another or --overwrite')
        if not (out / 'refshapes').is_dir():
            raise FileExistsError(f'{out} holds no RefShapes data set: it will not be overwritten')
    work = out.with_name(out.name + '.tmp')
    if work.exists() and not (work / 'refshapes').is_dir():
        raise FileExistsError(f'{work} is needed as work folder, but exists: move it away')
    try:
        if work.exists():
            shutil.rmtree(work)
        for name in ('refshapes', 'images'):
            (work / name).mkdir(parents=True)
        yield work
        if out.exists():
            shutil.rmtree(out)
        work.rename(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def export_ref_shapes(
    out: str | Path,
    counts: Mapping[str, int],
    *,
    size: tuple[int, int] = (128, 128),
    seed: int = 0,
    most_shapes: int = 10,
    scale: float = 1.0,
    kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    synonyms: bool = True,
    language: str = 'en',
    generalised: bool = False,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, dict[str, int]]:
    """Write ``out``/refshapes/{refs(unc).p, instances.json} and ``out``/images/*.png.

    Beside the REFER fields, a sentence carries its ``kind`` and logical ``form`` and an annotation
    its ``scene`` record, so that every sentence can be evaluated again from the files. Masks are
    RLE of the visible part.

    Args:
        counts: pictures per split of :data:`SPLITS`. testB's targets are colour-shape pairs that
            appear in no other split.
        size: (width, height) in pixels, both at least 64.
        seed: same seed, same files, byte for byte, whatever ``workers`` or the other counts.
        most_shapes: shapes per picture, from 3 to this.
        scale: size of the shapes, 0.5 to 1.5 of the usual.
        kind_weights: shares aimed at of 'attribute', 'position' and 'relation' sentences.
        synonyms: vary the wording; otherwise a logical form is always said in the same words.
        language: 'en', 'ko' or 'zh'. Pictures and forms differ between languages, since words are
            drawn from the same stream.
        generalised: also write ``out``/grefshapes, see :func:`~.generalised.add_generalised`.
        overwrite: replace an earlier RefShapes export.

    Returns:
        Split -> number of ``images``, ``refs`` and ``sentences``.

    Raises:
        FileExistsError: If ``out`` is not empty.
        ValueError: On an unknown split, a negative or zero total count, or a size below 64.
    """
    unknown = set(counts) - set(SPLITS)
    if unknown or min(counts.values(), default=0) < 0 or not sum(counts.values()):
        raise ValueError(f'expected pictures per split of {SPLITS}, got {dict(counts)}')
    if min(size) < MIN_SIDE:
        raise ValueError(f'size {size[0]}x{size[1]} is too small: {MIN_SIDE} pixels at least')
    if generalised and language != 'en':
        raise ValueError(f'generalised sentences are in English only, got language={language!r}')
    if most_shapes < 3:
        raise ValueError(f'most_shapes must be at least 3, got {most_shapes}')
    if not 0.5 <= scale <= 1.5:
        raise ValueError(f'scale must lie in [0.5, 1.5], got {scale}')
    if set(kind_weights) != set(KIND_WEIGHTS) or min(kind_weights.values()) < 0:
        raise ValueError(f'kind_weights needs {sorted(KIND_WEIGHTS)}, got {dict(kind_weights)}')
    if language not in LANGUAGES:
        raise ValueError(f'language must be one of {LANGUAGES}, got {language!r}')
    jobs = [(split, i) for split in SPLITS for i in range(counts.get(split, 0))]
    tables = ReferTables()
    with _replacing(Path(out), overwrite) as work:
        task = partial(
            _write_example,
            folder=work / 'images',
            seed=seed,
            size=size,
            most_shapes=most_shapes,
            scale=scale,
            kind_weights=dict(kind_weights),
            synonyms=synonyms,
            language=language,
        )
        with multiprocessing.Pool(workers) if workers > 1 else _Serial() as pool:
            done = pool.imap(task, jobs, chunksize=16)
            for record in tqdm(done, total=len(jobs), desc='RefShapes', unit='img'):
                tables.add(*record)
        tables.write(work / 'refshapes')
        if generalised:
            add_generalised(work, seed=seed, synonyms=synonyms)
    return _summary(tables, counts)


class _Serial:
    """The part of a process pool that is used here, in this process."""

    def __enter__(self) -> _Serial:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def imap(self, task, jobs, chunksize: int):
        return map(task, jobs)


def _summary(tables: ReferTables, counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    found = {}
    for split in (s for s in SPLITS if counts.get(s)):
        refs = [r for r in tables.refs if r['split'] == split]
        sentences = sum(len(r['sentences']) for r in refs)
        found[split] = dict(images=counts[split], refs=len(refs), sentences=sentences)
    return found
