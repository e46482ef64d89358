"""Which image is in which split: given in a file, or drawn."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from .refer_files import ReferError, read_json


def read_splits(path: Path) -> dict[str, list[int | str]]:
    """Split -> images, as ``{"train": [image ids or file names], ...}``, or that under ``splits``.

    Raises:
        ReferError: If the file is of another form, or an image is in two splits.
    """
    content = read_json(path)
    content = content.get('splits', content) if isinstance(content, dict) else content
    lists = isinstance(content, dict) and all(isinstance(v, list) for v in content.values())
    if not lists or not all(isinstance(i, (int, str)) for v in content.values() for i in v):
        raise ReferError(f'{path}: expected {{"train": [image ids or file names], "val": [...]}}')
    found: dict[int | str, str] = {}
    for split, images in content.items():
        for image in images:
            if found.setdefault(image, split) != split:
                raise ReferError(f'{path}: image {image} is in {found[image]} and in {split}')
    return content


def shares_of(texts: list[str]) -> dict[str, float]:
    """``['train=0.8', ...]`` as a dict.

    Raises:
        ValueError: If it is not of this form.
    """
    try:
        shares = {name: float(share) for name, share in (text.split('=') for text in texts)}
    except ValueError as error:
        raise ValueError(f'--shares takes SPLIT=SHARE ..., got {texts}') from error
    if min(shares.values()) < 0 or not sum(shares.values()):
        raise ValueError(f'--shares must not be negative, nor all 0: {texts}')
    return shares


def draw_splits(
    image_ids: Iterable[int], shares: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """Split images at random: each is in one split, and no split is empty if it can be helped."""
    ids = sorted(set(image_ids))
    random.Random(f'{seed}/splits').shuffle(ids)
    wanted = {name: share for name, share in shares.items() if share}
    total, splits, first, reached = sum(wanted.values()), {}, 0, 0.0
    for name, share in wanted.items():
        reached += share / total
        last = round(reached * len(ids))
        splits[name], first = ids[first:last], last
    for name in wanted:
        largest = max(splits.values(), key=len)
        if not splits[name] and len(largest) > 1:
            splits[name].append(largest.pop())
    return splits
