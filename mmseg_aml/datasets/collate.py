"""From items to a batch, in the worker: few tensors, which page-locking and copies take as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..registry import FUNCTIONS
from ..structures import ExpressionGroup
from ..transfer import stack_alike


@FUNCTIONS.register_module()
def collate_expressions(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What :class:`TextImageDataPreprocessor` reads, as contiguous as the sizes allow.

    Returns:
        ``inputs`` (B, 3, H, W) uint8, a list where sizes differ; ``data_samples``, B
        :class:`ExpressionGroup`; ``masks`` (E, H, W) uint8, the ground truth of all expressions,
        which then is in no data sample. Masks of different sizes stay in their data samples.
    """
    if not all(isinstance(item, dict) and _is_ours(item) for item in items):
        return pseudo_collate(items)  # type: ignore[return-value]
    images = [item['inputs'] for item in items]
    groups = [item['data_samples'] for item in items]
    batch: dict[str, Any] = dict(inputs=stack_alike(images), data_samples=groups)
    samples = [sample for group in groups for sample in group.samples]
    if all('gt_sem_seg' in sample for sample in samples):
        masks = stack_alike([sample.gt_sem_seg.data for sample in samples])
        if isinstance(masks, Tensor):
            batch['masks'] = masks[:, 0]
            for sample in samples:
                del sample.gt_sem_seg
    return batch


def _is_ours(item: dict[str, Any]) -> bool:
    return isinstance(item.get('data_samples'), ExpressionGroup)
