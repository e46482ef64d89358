"""Progress on a terminal, with the time that is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar('Item')
BAR: dict[str, Any] = dict(delay=2, disable=None)
"""Of a bar: what is done within two seconds needs none, nor does what is no terminal."""


def track(items: Iterable[Item], what: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """``items``, with a bar on a terminal if they take longer than two seconds."""
    return tqdm(items, desc=what, unit=unit, total=total, **BAR)
