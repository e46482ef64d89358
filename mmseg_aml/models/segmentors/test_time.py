"""Test-time augmentation: the mean over sizes, and over the mirrored picture and sentence.

A mirror alone is wrong here: "the left dog" of the mirrored picture is the other dog. So the
sentence is mirrored, too, and where that cannot be told (:func:`.sides.exchange_sides`) the
mirrored view is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor

from ...datasets.transforms.sides import exchange_sides

PATCHES = 112  # of patches of 14 and of 16 pixels: a multiple of what divides the side fits both
Logits = Callable[[Tensor, list[SegDataSample]], Tensor]


class Views(NamedTuple):
    """``test_cfg.tta``: sizes relative to the network's input, 1 among them; and the mirror."""

    scales: Sequence[float] = (0.75, 1.0, 1.25)
    mirror: bool = True


def average_views(
    logits: Logits, inputs: Tensor, samples: list[SegDataSample], views: Views
) -> Tensor:
    """Log odds of the mean probability over all views.

    What a head decides beside its mask (no target, maps) is that of the plain view.

    Args:
        logits: (E, 1 or 2, h, w) of inputs and the expressions about them.
        inputs: (B, 3, H, W), padded below and right with what is beyond ``img_shape``.
        samples: E expressions with ``image_index``.
        views: Which.

    Returns:
        (E, 1 or 2, H, W); of two channels, minus and plus half the log odds.

    Raises:
        ValueError: If the plain view is not among the sizes.
    """
    if 1 not in views.scales or min(views.scales) <= 0:
        raise ValueError(f'test_cfg.tta.scales must be positive with 1 among them: {views.scales}')
    size = inputs.shape[-2:]
    plain = logits(inputs, samples)
    channels = plain.shape[1]
    total = _probability(plain, size)
    count = total.new_ones(len(samples))
    for mirrored in (False, True) if views.mirror else (False,):
        images, rows, texts = inputs, list(range(len(samples))), samples
        if mirrored:
            rows, texts = _mirrored_sentences(samples)
            images = _mirrored(inputs, _valid_widths(inputs, samples))
        for scale in views.scales if rows else ():
            if scale == 1 and not mirrored:
                continue
            copies = [SegDataSample(metainfo=dict(sample.metainfo)) for sample in texts]
            found = _probability(logits(_resized(images, scale), copies), size)
            if mirrored:
                found = _mirrored(found, [_width(sample, size) for sample in texts])
            total[rows] += found
            count[rows] += 1
    mean = (total / count[:, None, None, None]).clamp(1e-6, 1 - 1e-6)
    odds = mean.logit()
    return odds if channels == 1 else torch.cat((-odds / 2, odds / 2), 1)


def _probability(logits: Tensor, size: Sequence[int]) -> Tensor:
    """(E, 1 or 2, h, w) -> (E, 1, H, W), of the logits as they are enlarged without views."""
    logits = F.interpolate(logits.float(), tuple(size), mode='bilinear', align_corners=False)
    odds = logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]
    return odds.sigmoid()


def _resized(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    steps = [math.gcd(side, PATCHES) for side in images.shape[-2:]]
    size = [max(n, round(side * scale / n) * n) for n, side in zip(steps, images.shape[-2:])]
    return F.interpolate(images, size, mode='bilinear', antialias=True)


def _mirrored_sentences(samples: Sequence[SegDataSample]) -> tuple[list[int], list[SegDataSample]]:
    """Rows whose sentence can be mirrored, and their samples with that sentence."""
    texts = [exchange_sides(sample.metainfo['expression']) for sample in samples]
    rows = [row for row, text in enumerate(texts) if text is not None]
    return rows, [
        SegDataSample(metainfo={**samples[row].metainfo, 'expression': texts[row]}) for row in rows
    ]


def _mirrored(maps: Tensor, widths: Sequence[int]) -> Tensor:
    """Left and right exchanged in the first ``widths`` columns of each; padding stays."""
    if set(widths) == {maps.shape[-1]}:
        return maps.flip(-1)
    mirrored = maps.clone()
    for row, width in enumerate(widths):
        mirrored[row, ..., :width] = maps[row, ..., :width].flip(-1)
    return mirrored


def _width(sample: SegDataSample, size: Sequence[int]) -> int:
    return min(int(sample.metainfo.get('img_shape', size)[1]), int(size[1]))


def _valid_widths(inputs: Tensor, samples: Sequence[SegDataSample]) -> list[int]:
    """Width of every image of the batch without padding."""
    widths = [inputs.shape[-1]] * len(inputs)
    for sample in samples:
        widths[sample.metainfo['image_index']] = _width(sample, inputs.shape[-2:])
    return widths
