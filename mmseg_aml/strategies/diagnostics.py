"""Does the alignment map carry any signal? Numbers that answer it.

All functions are pure; shares are in [0, 1], one value per expression, NaN where
undefined (an image without target, or all target).
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor

from .afm import pool_blocks, upsample_scores, valid_pixels
from .aml import AMLRecord


def roc_auc(scores: Tensor, positives: Tensor) -> float:
    """Area under the ROC curve of ``scores`` (N,) for ``positives`` (N,) bool.

    The probability that a positive scores above a negative, ties counting one half:
    0.5 = no signal, below = anti-aligned. NaN if either class is empty.
    """
    count = int(positives.sum())
    if count in (0, len(positives)):
        return float('nan')
    values, inverse, counts = scores.double().unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks = (last - (counts - 1) / 2)[inverse]  # mean rank within ties, from 1
    above = ranks[positives].sum() - count * (count + 1) / 2
    return float(above / (count * (len(positives) - count)))


def score_auc(record: AMLRecord) -> Tensor:
    """AUC (E,) of the up-sampled score against the ground truth, over valid pixels."""
    size: tuple[int, int] = tuple(record.targets.shape[-2:])  # type: ignore[assignment]
    pixels = upsample_scores(record.scores, size)
    valid = valid_pixels(record.valid_sizes, size, pixels.device)
    return torch.tensor([roc_auc(p[v], t[v]) for p, t, v in zip(pixels, record.targets, valid)])


def masked_shares(record: AMLRecord, block_filter: BaseModule) -> dict[str, Tensor]:
    """Shares (E,): weak blocks, masked blocks, masked pixels of the target."""
    size: tuple[int, int] = tuple(record.targets.shape[-2:])  # type: ignore[assignment]
    side: int = block_filter.block_size  # type: ignore[assignment]
    valid = valid_pixels(record.valid_sizes, size, record.masked.device)
    inside = (pool_blocks(valid, side, 'max') > 0).flatten(1).sum(1)
    weak = block_filter.weak(record.scores, size, valid)  # type: ignore[operator]
    target = pool_blocks(record.targets & valid, side, 'sum').flatten(1)
    masked = record.masked.flatten(1)
    return {
        'weak': weak.flatten(1).sum(1) / inside,
        'masked': masked.sum(1) / inside,
        'masked_target': (target * masked).sum(1) / target.sum(1),
    }


def alignment_diagnostics(record: AMLRecord, block_filter: BaseModule) -> dict[str, Tensor]:
    """All diagnostics (E,): weak, masked, masked_target, auc and, if known, entropy (nats)."""
    found = {**masked_shares(record, block_filter), 'auc': score_auc(record)}
    if record.entropy is not None:
        found['entropy'] = record.entropy
    return {name: values.double().cpu() for name, values in found.items()}
