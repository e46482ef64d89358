"""Read access to REFER annotations: RefCOCO, RefCOCO+, RefCOCOg, ReferIt, gRefCOCO.

    >>> index = ReferIndex.open('data/refer', 'refcoco')
    >>> index.splits
    {'train': 42404, 'val': 3811, 'testA': 1975, 'testB': 1810}
    >>> ref = index.ref(index.rows('val')[0])

The first use builds a compact binary index beside the annotations (see
:func:`~mmseg_aml.datasets.array_file.cached_arrays`); afterwards it is only mapped into
memory. This module imports no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .array_file import ArrayFile, cached_arrays
from .refer_files import (
    LAYOUTS,
    ReferError,
    ReferFiles,
    ReferLayout,
    default_image_dir,
    find_refer_files,
)
from .refer_index import build_index
from .run_lengths import check_run_lengths

__all__ = [
    'LAYOUTS',
    'Image',
    'Ref',
    'ReferError',
    'ReferFiles',
    'ReferIndex',
    'ReferLayout',
    'Sentence',
    'decode_masks',
    'default_image_dir',
    'find_refer_files',
]


@dataclass(frozen=True)
class Image:
    """One photograph; ``file_name`` is relative to the image folder."""

    image_id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Sentence:
    """One referring expression: ``sent`` is the cleaned text, ``raw`` as it was written."""

    sent_id: int
    sent: str
    raw: str


@dataclass(frozen=True)
class Ref:
    """One referred target (of one annotation; gRefCOCO: several, or none)."""

    ref_id: int
    split: str
    image: Image
    ann_ids: list[int]
    sentences: list[Sentence]


class ReferIndex:
    """Rows of refs, sentences, images and masks of one data set and split author.

    Args:
        arrays: What :func:`~mmseg_aml.datasets.refer_index.build_index` made.
        files: The annotation files it was made from.
    """

    def __init__(self, arrays: ArrayFile, files: ReferFiles) -> None:
        self.arrays = arrays
        self.files = files
        self.split_names: list[str] = arrays.meta['splits']
        self._scale: float = arrays.meta['scale']

    @classmethod
    def open(cls, data_root: str | Path, dataset: str, split_by: str | None = None) -> ReferIndex:
        """Open, and build if needed, the index of ``<data_root>/<dataset>``.

        Raises:
            FileNotFoundError: If the annotation files are not there.
            ReferError: If they cannot be used.
        """
        files = find_refer_files(data_root, dataset, split_by)
        name = f'.{files.refs.name}.index2'
        return cls(cached_arrays(files, name, lambda: build_index(files)), files)

    @property
    def splits(self) -> dict[str, int]:
        """Name of each split in the file -> number of refs."""
        counts = np.bincount(self.arrays['ref_split'], minlength=len(self.split_names))
        return dict(zip(self.split_names, counts.tolist()))

    def rows(self, split: str) -> np.ndarray:
        """Rows of the refs of ``split``, in file order, int64.

        A split of exactly this name is taken alone. Otherwise, as in the REFER toolbox, ``test``
        takes ``testA``, ``testB``, ...; and, as there, ``testA`` always takes ReferIt's combined
        ``testAB`` too.

        Raises:
            ReferError: If there is none; the message lists the splits that there are.
        """
        exact = split in self.split_names
        codes = [i for i, name in enumerate(self.split_names) if _matches(name, split, exact)]
        if not codes:
            there = ', '.join(f'{name} ({count} refs)' for name, count in self.splits.items())
            raise ReferError(f'no split {split!r} in {self.files.refs}; splits there: {there}')
        return np.flatnonzero(np.isin(self.arrays['ref_split'], codes))

    def image_ids(self, refs: np.ndarray) -> np.ndarray:
        """Sorted ids of the images of these rows of refs, each once."""
        return np.sort(self.arrays['image_id'][np.unique(self.arrays['ref_image'][refs])])

    def image(self, row: int) -> Image:
        """The image of one row."""
        height, width = self.arrays['image_size'][row].tolist()
        name = self.text('image_name', row)
        return Image(int(self.arrays['image_id'][row]), name, height, width)

    def sentence(self, row: int) -> Sentence:
        """The sentence of one row."""
        text, raw = self.text('sent', row), self.text('raw', row)
        return Sentence(int(self.arrays['sent_id'][row]), text, raw)

    def ref(self, row: int) -> Ref:
        """The ref of one row with its image and sentences."""
        first, last = self.arrays['ref_sents'][row : row + 2].tolist()
        return Ref(
            ref_id=int(self.arrays['ref_id'][row]),
            split=self.split_names[self.arrays['ref_split'][row]],
            image=self.image(self.arrays['ref_image'][row]),
            ann_ids=self.arrays['ann_id'][self._ann_rows(row)].tolist(),
            sentences=[self.sentence(i) for i in range(first, last)],
        )

    def ann_ids(self, row: int) -> list[int]:
        """Annotation ids of one ref; empty = it refers to nothing."""
        return self.arrays['ann_id'][self._ann_rows(row)].tolist()

    def segmentations(self, row: int) -> list[Any]:
        """COCO segmentations of one ref, whose union is its target; empty = no target.

        Each is a list of polygons (float64 arrays x, y, x, y, ... in pixels) or an RLE dict.
        """
        size = self.arrays['image_size'][self.arrays['ref_image'][row]].tolist()
        return [part for ann in self._ann_rows(row) for part in self._segmentation(ann, size)]

    def empty_texts(self, key: str, refs: np.ndarray) -> list[int]:
        """``sent_id`` of the sentences of ``refs`` whose text ``key`` is empty or blank."""
        of_ref = np.repeat(np.arange(len(self.arrays['ref_id'])), np.diff(self.arrays['ref_sents']))
        rows = np.flatnonzero(np.isin(of_ref, refs))
        short = rows[np.diff(self.arrays[key])[rows] < 8]  # blanks hide only in short texts
        blank = [row for row in short.tolist() if not self.text(key, row).strip()]
        return self.arrays['sent_id'][blank].tolist()

    def text(self, key: str, row: int) -> str:
        """Text ``key`` of one row: ``'sent'``, ``'raw'``, or ``'image_name'``."""
        first, last = self.arrays[key][row : row + 2]
        return self.arrays[_BLOBS[key]][first:last].tobytes().decode('utf-8', 'surrogatepass')

    def _ann_rows(self, row: int) -> np.ndarray:
        first, last = self.arrays['ref_anns'][row : row + 2]
        return self.arrays['ref_ann'][first:last]

    def _segmentation(self, ann: int, size: list[int]) -> list[Any]:
        """Polygons of an annotation as one segmentation, each RLE as one of its own."""
        arrays = self.arrays
        first, last = arrays['ann_polys'][ann : ann + 2]
        bounds = arrays['poly'][first : last + 1]
        polygons = [arrays['points'][a:b] / self._scale for a, b in zip(bounds, bounds[1:])]
        first, last = arrays['ann_rles'][ann : ann + 2]
        bounds = arrays['rle'][first : last + 1]
        rles = [
            {'size': size, 'counts': arrays['rle_counts'][a:b].tobytes()}
            for a, b in zip(bounds, bounds[1:])
        ]
        return ([polygons] if polygons else []) + rles


_BLOBS = {'sent': 'sent_text', 'raw': 'raw_text', 'image_name': 'image_name_text'}


_LETTERS = re.compile('test([A-Z]*)')


def _matches(name: str, split: str, exact: bool) -> bool:
    """Whether ``split`` takes the refs of ``name``; ``exact``: there is a split of its own name."""
    if name == split:
        return True
    there, wanted = _LETTERS.fullmatch(name), _LETTERS.fullmatch(split)
    if not there or not wanted or len(wanted[1]) > 1:
        return False
    if not wanted[1]:
        return not exact
    return wanted[1] in there[1] and (not exact or len(there[1]) > 1)


def decode_masks(segmentations: list[Any], height: int, width: int) -> np.ndarray:
    """Rasterise the union of COCO segmentations with pycocotools.

    A polygon of fewer than three points encloses nothing and adds no pixels. (pycocotools
    would take four numbers for a box.)

    Args:
        segmentations: Lists of polygons, or RLE dicts (counts compressed or not).

    Returns:
        (height, width) uint8 {0, 1}; all zero without segmentations.

    Raises:
        ValueError: If run lengths are damaged.
    """
    rles: list[Any] = []
    for part in segmentations:
        if isinstance(part, list):
            part = [polygon for polygon in part if len(polygon) >= 6]
            rles += coco_mask.frPyObjects(part, height, width) if part else []
        else:
            check_run_lengths(part)
            listed = isinstance(part['counts'], list)
            rles.append(coco_mask.frPyObjects(part, height, width) if listed else part)
    if not rles:
        return np.zeros((height, width), np.uint8)
    return coco_mask.decode(rles[0] if len(rles) == 1 else coco_mask.merge(rles))
