"""gRefCOCO: expressions that refer to one, several or no targets (generalised RIS)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..registry import DATASETS
from .refcoco import RefCOCODataset


@DATASETS.register_module()
class GRefCOCODataset(RefCOCODataset):
    """:class:`RefCOCODataset` with the published conventions of gRefCOCO (GRES, CVPR 2023).

    The target is the union of all annotations of an expression. One that refers to nothing
    (``ann_id = [-1]``) has ``segmentation = []``, an all-zero mask and the metainfo
    ``no_target = True``. As in the published training, an item is one sentence, as written.

    Args:
        data_root: Folder that holds ``grefcoco/grefs(unc).json`` and ``instances.json``.
        split: ``train``, ``val``, ``testA`` or ``testB``.
        options: Further arguments of :class:`RefCOCODataset`.
    """

    def __init__(self, data_root: str, split: str = 'train', **options: Any) -> None:
        defaults = dict(dataset='grefcoco', text='raw', sampling='sentence')
        super().__init__(data_root, split=split, **{**defaults, **options})

    def target_counts(self) -> dict[str, int]:
        """Number of sentences of this split with no, one and several targets."""
        arrays = self.index.arrays
        targets = np.diff(arrays['ref_anns'])[self.refs]
        sentences = np.diff(arrays['ref_sents'])[self.refs]
        groups = {'no_target': targets == 0, 'single': targets == 1, 'multi': targets > 1}
        return {name: int(sentences[rows].sum()) for name, rows in groups.items()}
