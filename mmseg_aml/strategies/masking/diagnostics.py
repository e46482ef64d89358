"""Does the alignment map carry any signal? Numbers that answer it.

All functions are pure; shares are in [0, 1], one value per expression, NaN where
undefined (an image without target, or all target).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import Size, pool_blocks, upsample_scores
from .masker import Record


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


def score_auc(record: Record) -> Tensor:
    """AUC (E,) of the up-sampled score against the ground truth, over valid pixels."""
    rows = zip(score_pixels(record), record.targets, record.valid)
    return torch.tensor([roc_auc(p[v], t[v]) for p, t, v in rows])


def score_pixels(record: Record) -> Tensor:
    """The map at the size of the input, (E, H, W).

    Raises:
        ValueError: There is no map: no estimator chose.
    """
    if record.scores is None:
        raise ValueError('no estimator chose these blocks, so there is no map to judge')
    size: Size = (record.targets.shape[-2], record.targets.shape[-1])
    return upsample_scores(record.scores, size, record.valid)


def masked_shares(record: Record) -> dict[str, Tensor]:
    """Shares (E,): weak and masked ones of an image's blocks, masked pixels of the target."""
    side = record.block_size
    inside = (pool_blocks(record.valid, side, 'max') > 0).flatten(1).sum(1)
    target = pool_blocks(record.targets & record.valid, side, 'sum').flatten(1)
    masked = record.masked.flatten(1)
    return {
        'weak': record.weak.flatten(1).sum(1) / inside,
        'masked': masked.sum(1) / inside,
        'masked_target': (target * masked).sum(1) / target.sum(1),
    }


def alignment_diagnostics(record: Record) -> dict[str, Tensor]:
    """All diagnostics (E,): weak, masked, masked_target, auc and, if known, entropy (nats)."""
    found = {**masked_shares(record), 'auc': score_auc(record)}
    if record.entropy is not None:
        found['entropy'] = record.entropy
    return {name: values.double().cpu() for name, values in found.items()}
