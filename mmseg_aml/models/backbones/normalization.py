"""The colours that pretrained weights expect, as their own record says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable


class Normalization(NamedTuple):
    """Mean and standard deviation of R, G, B in 0..255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_unit_range(cls, mean: Sequence[float], std: Sequence[float]) -> Normalization:
        """From values for images in 0..1, as Hugging Face and timm write them."""
        return cls(tuple(255 * m for m in mean), tuple(255 * s for s in std))

    def differs(self, other: Normalization) -> bool:
        """By more than rounding: 0.1 grey levels."""
        pairs = zip(self.mean + self.std, other.mean + other.std)
        return any(abs(a - b) > 0.1 for a, b in pairs)


@runtime_checkable
class RecordsNormalization(Protocol):
    """A backbone that knows the colours of its weights; None where no record says."""

    normalization: Normalization | None


IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def recorded_normalization(name: str) -> Normalization | None:
    """Of a Hugging Face model: its ``preprocessor_config.json``, in a folder or in the cache.

    Raises:
        ValueError: The record is damaged, or does not scale by 1/255 before normalising.
    """
    from transformers.utils.hub import cached_file

    path = Path(name) / 'preprocessor_config.json'
    if not Path(name).is_dir():
        try:
            found = cached_file(name, path.name, _raise_exceptions_for_missing_entries=False)
        except OSError:
            found = None
        path = Path(found) if found else path
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        factor = record.get('rescale_factor', 1 / 255)
        if not record.get('do_normalize', True):
            return Normalization((0.0,) * 3, (1 / factor,) * 3)
        mean, std = record['image_mean'], record['image_std']
    except (json.JSONDecodeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} does not say how images are normalised: {error!r}') from error
    scale = (1 / factor) if record.get('do_rescale', True) else 1.0
    return Normalization(tuple(scale * m for m in mean), tuple(scale * s for s in std))


def agree(given: Normalization | None, backbone: object) -> Normalization:
    """What the data preprocessor shall use: the given constants, checked, or the recorded ones.

    Raises:
        ValueError: They differ from the record; names both.
    """
    recorded = backbone.normalization if isinstance(backbone, RecordsNormalization) else None
    if given is None:
        return recorded or IMAGENET
    if recorded is not None and recorded.differs(given):
        shown = [[round(value, 3) for value in part] for part in recorded]
        raise ValueError(
            f'data_preprocessor normalises with mean={list(given.mean)}, std={list(given.std)}, '
            f'but the weights of {type(backbone).__name__} record mean={shown[0]}, '
            f'std={shown[1]}: drop mean and std (the record is then used) or write these'
        )
    return given
