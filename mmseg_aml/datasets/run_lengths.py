"""COCO's run lengths, checked: pycocotools leaves pixels that no run covers undefined."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_run_lengths(rle: dict[str, Any]) -> None:
    """Refuses run lengths that do not cover their picture exactly.

    Args:
        rle: ``size`` (H, W) and ``counts``: a list, or the compressed text of pycocotools.

    Raises:
        ValueError: They are damaged; says how many pixels they cover.
    """
    height, width = rle['size']
    counts = rle['counts']
    runs = np.asarray(counts, np.int64) if isinstance(counts, list) else decompress(counts)
    if runs.size and runs.min() < 0 or runs.sum() != height * width:
        raise ValueError(
            f'its run lengths cover {runs.sum()} pixels, its picture has {height} x {width}'
        )


def decompress(counts: str | bytes) -> np.ndarray:
    """Run lengths (N,) int64 of COCO's compressed text.

    Each number is written in groups of five bits, lowest first, as characters from '0' on: bit 6
    says that another group follows, the highest bit of the last group is the sign. From the
    fourth number on, it is the difference to the one two before.

    Raises:
        ValueError: If a character is no such group, or the last number is cut off.
    """
    text = counts.encode('ascii', 'replace') if isinstance(counts, str) else bytes(counts)
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not groups.size:
        return groups
    if groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError('its run lengths are damaged or cut off')
    ends = np.flatnonzero(groups & 32 == 0)
    starts = np.append(0, ends[:-1] + 1)
    lengths = ends - starts + 1
    place = np.arange(groups.size) - np.repeat(starts, lengths)
    if lengths.max() > 12:
        raise ValueError('its run lengths are damaged')
    values = np.add.reduceat((groups & 31) << (5 * place), starts)
    values -= np.where(groups[ends] & 16, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
