"""COCO instance files -> REFER files with proved sentences."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..expressions.logic import form_to_dict
from ..mirrors import write_refer
from ..refer import ReferError
from ..refer_files import read_json
from ..splits import draw_splits
from .language import KIND_WEIGHTS, Speaker, photo_kind
from .photo import Instance, Photo, measure
from .vocabulary import Vocabulary

SOURCE = 'coco_to_refer'
THIN = 0.06
"""A thing at the border whose shorter side is below this share of the picture's is cut off."""


@dataclass(frozen=True)
class Source:
    """One COCO instance file and the folder of its images."""

    instances: Path
    images: Path


@dataclass
class Statistics:
    """What became of the objects; ``splits``: split -> images, refs, sentences."""

    splits: dict[str, Counter[str]] = field(default_factory=dict)
    objects: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """A screen of text."""
        sentences = sum(self.kinds.values()) or 1
        kinds = ', '.join(f'{k} {n} ({100 * n / sentences:.0f} %)' for k, n in self.kinds.items())
        lengths = sum(self.words.values()) / sentences
        return [
            *(
                f'{split}: ' + ', '.join(f'{n} {what}' for what, n in counts.items())
                for split, counts in self.splits.items()
            ),
            f'sentences by kind: {kinds}',
            f'{len(self.words)} different words, {lengths:.1f} words a sentence, '
            f'{len(self.categories)} categories',
            'objects: ' + ', '.join(f'{n} {what}' for what, n in self.objects.most_common()),
        ]


def load(sources: Sequence[Source]) -> tuple[list[dict], dict[int, list[dict]], list[dict]]:
    """Images, annotations by image id, and categories of all files together.

    A file name becomes relative to the common folder of images: see :func:`image_links`.

    Raises:
        ReferError: If a file is not of COCO form, an id is there twice, an annotation has no
            image, or two files call the same category id by different names.
    """
    images: dict[int, dict] = {}
    annotations: dict[int, dict] = {}
    categories: dict[int, dict] = {}
    links = image_links([source.images for source in sources])
    for source, prefix in zip(sources, links):
        data = read_json(source.instances)
        try:
            for category in data['categories']:
                known = categories.setdefault(category['id'], category)
                if known['name'] != category['name']:
                    raise ReferError(
                        f'{source.instances}: category {category["id"]} is {category["name"]!r}, '
                        f'but {known["name"]!r} in another file'
                    )
            for image in data['images']:
                name = os.path.join(prefix, image['file_name']).replace('\\', '/')
                record = {**image, 'file_name': name}
                _add(images, record, source.instances, 'image')
            for annotation in data['annotations']:
                _add(annotations, annotation, source.instances, 'annotation')
                if annotation['image_id'] not in images:
                    raise ReferError(
                        f'{source.instances}: annotation {annotation["id"]} lies in image '
                        f'{annotation["image_id"]}, which is not there'
                    )
                if annotation['category_id'] not in categories:
                    raise ReferError(
                        f'{source.instances}: annotation {annotation["id"]} has category_id '
                        f'{annotation["category_id"]}, which is no category'
                    )
        except (KeyError, TypeError) as error:
            raise ReferError(
                f'{source.instances} is not of COCO form ({type(error).__name__}: {error}): '
                "expected 'images' with id, file_name, width, height, 'annotations' with id, "
                "image_id, category_id, segmentation, and 'categories' with id, name"
            ) from error
    grouped: dict[int, list[dict]] = {image_id: [] for image_id in images}
    for annotation in annotations.values():
        grouped[annotation['image_id']].append(annotation)
    return list(images.values()), grouped, list(categories.values())


def _add(records: dict[int, dict], record: dict, file: Path, kind: str) -> None:
    if record['id'] in records:
        raise ReferError(f'{file}: {kind} {record["id"]} is there twice, or in another file too')
    records[record['id']] = record


def image_links(folders: Sequence[Path]) -> list[str]:
    """What precedes the file names of each folder: nothing for one, else ``<number>/``."""
    return [''] if len(folders) == 1 else [str(number) for number in range(len(folders))]


def link_images(folders: Sequence[Path], target: Path) -> None:
    """Make ``target`` the folder of all images, by links to ``folders``.

    Raises:
        FileNotFoundError: If one of them does not exist.
        FileExistsError: If ``target`` is there already, and is something else.
    """
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f'the image folder {folder} does not exist')
    links = {target / prefix: f.resolve() for prefix, f in zip(image_links(folders), folders)}
    for link, folder in links.items():
        if link.exists() and link.resolve() != folder:
            raise FileExistsError(f'{link} is there already, and is not {folder}: move it away')
    for link, folder in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(folder, target_is_directory=True)


def why_not(instance: Instance, photo: Photo, min_area: float) -> str | None:
    """Why an object is no target, or None."""
    if instance.area == 0 or instance.crowd:
        return 'without a mask of their own (crowds)'
    if photo.share(instance) < min_area:
        return f'smaller than {100 * min_area:g} % of the picture'
    x0, y0, x1, y1 = instance.box
    thin = min(x1 - x0, y1 - y0) < THIN * min(photo.width, photo.height)
    return 'cut off by the border' if thin and instance.cut(photo.width, photo.height) else None


class Converter:
    """Turns photographs into refs, one after the other; ids count up over all of them.

    Args:
        categories: COCO records with ``id`` and ``name``.
        vocabulary: What their things may be called.
        seed: Same seed, same sentences, whatever other photographs there are.
        count: Most sentences a ref.
        min_area: Smallest share of the picture of a target.
        kind_weights: Shares of the kinds of sentences aimed at.
    """

    def __init__(
        self,
        categories: Sequence[Mapping[str, Any]],
        vocabulary: Vocabulary,
        *,
        seed: int = 0,
        count: int = 3,
        min_area: float = 0.01,
        kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    ) -> None:
        self.names = {category['id']: category['name'] for category in categories}
        self.vocabulary, self.seed, self.count = vocabulary, seed, count
        self.min_area, self.kind_weights = min_area, kind_weights
        self.refs: list[dict[str, Any]] = []
        self.statistics = Statistics()
        self._sentences = 0

    def add(self, split: str, image: Mapping[str, Any], annotations: Sequence[dict]) -> None:
        """Refer to the objects of one photograph."""
        rng = random.Random(f'{self.seed}/{image["id"]}')
        width, height = image['width'], image['height']
        instances = [measure(a, self.names[a['category_id']], width, height) for a in annotations]
        photo = Photo(width, height, instances, self.vocabulary)
        speaker = Speaker(photo, rng, self.kind_weights)
        counts = self.statistics.splits.setdefault(split, Counter())
        counts['images'] += 1
        before = len(self.refs)
        for annotation, instance in zip(annotations, instances):
            reason = why_not(instance, photo, self.min_area)
            found = [] if reason else speaker.refer(instance.id, self.count)
            if not found:
                self.statistics.objects[reason or 'that no sentence singles out'] += 1
                continue
            self.statistics.objects['referred to'] += 1
            self._append(split, image, annotation, found)
            counts['refs'] += 1
            counts['sentences'] += len(found)
        counts['images with refs'] += len(self.refs) > before

    def _append(self, split: str, image: Mapping[str, Any], annotation: dict, found: list) -> None:
        sentences = []
        for text, form in found:
            kind = photo_kind(form)
            self.statistics.kinds[kind] += 1
            self.statistics.words.update(text.split())
            sentences.append(
                dict(sent_id=self._sentences, sent=text, raw=text, tokens=text.split())
                | dict(source=SOURCE, kind=kind, form=form_to_dict(form))
            )
            self._sentences += 1
        self.statistics.categories[self.names[annotation['category_id']]] += 1
        self.refs.append(
            dict(ref_id=len(self.refs), ann_id=annotation['id'], image_id=image['id'], split=split)
            | dict(category_id=annotation['category_id'], file_name=image['file_name'])
            | dict(sent_ids=[s['sent_id'] for s in sentences], sentences=sentences)
        )


def convert_coco(
    sources: Sequence[Source],
    out: Path,
    dataset: str,
    *,
    splits: Mapping[str, Iterable[int | str]] | None = None,
    shares: Mapping[str, float] | None = None,
    own_words: Mapping[str, Mapping[str, Any]] | None = None,
    split_by: str = 'own',
    seed: int = 0,
    **options: Any,
) -> Statistics:
    """Write ``out/<dataset>/{refs(<split_by>).json, instances.json}``, and link ``out/images``.

    All annotations of the images are kept, so that every sentence can be proved from the files:
    each carries its ``form``, its ``kind`` and ``source``.

    Args:
        sources: COCO files; their image and annotation ids must differ.
        out: A data root.
        dataset: Sub-folder to write.
        splits: Split -> image ids or file names; images in none are left out. By default drawn
            by ``shares``.
        shares: Split -> share of the images.
        own_words: See :class:`~.vocabulary.Vocabulary`.
        split_by: In the name of the refs file.
        seed: Same seed, same files.
        options: Of :class:`Converter`.

    Raises:
        ReferError: If the files cannot be used; the message names file and id.
        ValueError: On words for an unknown category.
        FileExistsError: If annotations are there already.
    """
    images, annotations, categories = load(sources)
    vocabulary = Vocabulary([category['name'] for category in categories], own_words)
    shares = shares or {'train': 0.8, 'val': 0.1, 'test': 0.1}
    splits = splits or draw_splits(annotations, shares, seed)
    listed = {image: split for split, members in splits.items() for image in members}
    split_of = {
        image['id']: listed[key]
        for image in images
        for key in (image['file_name'], image['id'])
        if key in listed
    }
    used = [image for image in images if image['id'] in split_of]
    if not used:
        raise ReferError(f'no image of {sources[0].instances} is in any split')
    converter = Converter(categories, vocabulary, seed=seed, **options)
    for image in tqdm(used, desc='sentences', unit='img'):
        converter.add(split_of[image['id']], image, annotations[image['id']])
    kept = [annotation for image in used for annotation in annotations[image['id']]]
    instances = dict(images=used, annotations=kept, categories=categories)
    link_images([source.images for source in sources], out / 'images')
    write_refer(out / dataset, split_by, converter.refs, instances)
    return converter.statistics
