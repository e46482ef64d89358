"""Which image every expression of a batch is about, and which levels its heads read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from ...transfer import to_device


def levels_read(*heads: dict[str, Any] | None) -> list[int] | None:
    """Levels that the heads read by their ``in_index``; None if one does not say."""
    read: set[int] = set()
    for head in filter(None, heads):
        index = head.get('in_index')
        if index is None:
            return None
        read.update([index] if isinstance(index, int) else index)
    return sorted(read)


def image_index(data_samples: Sequence[SegDataSample]) -> list[int]:
    """Row of every expression's image in the batch."""
    return [sample.metainfo['image_index'] for sample in data_samples]


def rows_of_images(data_samples: Sequence[SegDataSample], pixels: int = 2**22) -> list[list[int]]:
    """Rows of expressions that are resized together: of one image, as many as ``pixels`` hold."""
    images: dict[int, list[int]] = {}
    for row, image in enumerate(image_index(data_samples)):
        images.setdefault(image, []).append(row)
    chunks = []
    for rows in images.values():
        height, width = data_samples[rows[0]].metainfo.get('ori_shape', (1, pixels))[:2]
        step = max(1, pixels // (height * width))
        chunks += [rows[i : i + step] for i in range(0, len(rows), step)]
    return chunks


def expand(images: Sequence[Tensor], index: list[int] | Tensor) -> tuple[Tensor, ...]:
    """Rows of tensors (B, ...) per expression (E, ...); no copy if they are the same."""
    if not isinstance(index, Tensor):
        if not images or index == list(range(len(images[0]))):
            return tuple(images)
        index = to_device(torch.tensor(index), images[0].device)
    # Else as many as there are when an exported graph runs.
    return tuple(level[index] for level in images)
