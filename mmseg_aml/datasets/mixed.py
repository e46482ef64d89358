"""Training on RefCOCO, RefCOCO+ and RefCOCOg together, without their test images."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..registry import DATASETS
from .refcoco import RefCOCODataset
from .refer import ReferError
from .samplers import item_generator
from .transforms.framework import build_pipeline

PARTS = (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd'))


@DATASETS.register_module()
class MixedRefDataset(Dataset):
    """``refcoco-mixed``: the ``train`` splits of several data sets over the same images.

    The three data sets share COCO's images but not their splits: an image of one's training
    split is a test image of another. So every image that occurs in any other split of any
    part is dropped from training, by image id; this is asserted, and the number of removed
    refs is printed. (CARIS' and AMLRIS' ``refs(mix).p`` is a similar mixture; numbers are
    comparable only between training sets that were filtered alike.)

    Items and draws are those of :class:`RefCOCODataset`, one part after the other; ``ref_id``
    and ``sent_id`` are unique only together with the item's ``dataset``.

    Args:
        data_root: Folder that holds the parts and their images.
        parts: (data set, author of its splits) of each part.
        pipeline: Transforms of the item.
        seed: Seed of the draws. Default: the Runner's.
        options: ``image_dir``, ``text``, ``sampling``, ``num_expressions`` of
            :class:`RefCOCODataset`, for all parts.
    """

    def __init__(
        self,
        data_root: str,
        parts: Sequence[Sequence[str]] = PARTS,
        *,
        pipeline: Sequence[Any] = (),
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.parts = [
            RefCOCODataset(data_root, dataset, 'train', split_by=by, **options)
            for dataset, by in parts
        ]
        self.seed = seed
        self.pipeline = build_pipeline(pipeline)
        held_out = held_out_images(self.parts)
        self.removed = {part.dataset: _remove_images(part, held_out) for part in self.parts}
        for part in self.parts:
            leaked = np.intersect1d(part.image_ids(), held_out)
            if leaked.size:  # an `assert` would vanish under python -O
                raise ReferError(f'{part.dataset}: {leaked.size} evaluation images in training')
        self._ends = list(itertools.accumulate(map(len, self.parts)))
        self._report(len(held_out))

    @property
    def metainfo(self) -> dict[str, Any]:
        """Class names and colours, and which data these are."""
        return {**self.parts[0].metainfo, 'dataset': 'refcoco-mixed', 'split': 'train'}

    def full_init(self) -> None:
        """Nothing left to do; MMEngine's Runner calls this."""

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(self.get_data_info(index))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The item of ``index = visit * len(self) + item`` before the pipeline."""
        item, rng = item_generator(self.seed, index, len(self))
        part = bisect.bisect_right(self._ends, item)
        start = self._ends[part] - len(self.parts[part])
        return self.parts[part].draw(item - start, rng)

    def _report(self, images: int) -> None:
        kept = {part.dataset: len(part.refs) for part in self.parts}
        counts = ', '.join(
            f'{name} {kept[name]} of {kept[name] + removed} refs'
            for name, removed in self.removed.items()
        )
        print_log(
            f'refcoco-mixed: kept {counts}; removed {sum(self.removed.values())} refs whose image '
            f'is one of the {images} in the val and test splits of all parts',
            logger='current',
        )


def held_out_images(parts: Sequence[RefCOCODataset]) -> np.ndarray:
    """Sorted ids of the images that occur in any split but ``train`` of any part."""
    ids = []
    for part in parts:
        train = part.index.split_names.index('train')
        rows = np.flatnonzero(part.index.arrays['ref_split'] != train)
        ids.append(part.index.image_ids(rows))
    return np.unique(np.concatenate(ids))


def _remove_images(part: RefCOCODataset, image_ids: np.ndarray) -> int:
    """Drop the refs about these images; returns how many."""
    refs = part.refs
    image = part.index.arrays['image_id'][part.index.arrays['ref_image'][refs]]
    part.set_refs(refs[~np.isin(image, image_ids)])
    return len(refs) - len(part.refs)
