"""A frozen backbone, whose levels are computed once per picture and kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...registry import MODELS
from ..hugging_face import keep_frozen
from .normalization import RecordsNormalization

Levels = tuple[Tensor, ...]


@MODELS.register_module()
class FrozenBackbone(BaseModule):
    """Runs a backbone without gradient, in eval mode, and remembers what it gave.

    A picture that comes again, bit for bit and with the same weights, is read instead of
    computed. So keep random augmentation to a finite number of views
    (:class:`~mmseg_aml.datasets.transforms.RandomWindow`); endless ones only fill the disk.

    Args:
        backbone: Any backbone that does not read text.
        cache: Folder of the remembered levels, one file a picture (float16: 0.2 to 1 MB at
            320 px), read and written in training only. None remembers nothing.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        *,
        cache: str | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.model = MODELS.build(backbone)
        if getattr(self.model, 'reads_text', False):
            raise ValueError('FrozenBackbone needs a backbone that does not read text')
        keep_frozen(self.model)
        known = isinstance(self.model, RecordsNormalization)
        self.normalization = self.model.normalization if known else None
        self.cache = Path(cache).expanduser() if cache else None
        self._weights: tuple[tuple[int, ...], str] | None = None

    def train(self, mode: bool = True) -> FrozenBackbone:
        super().train(mode)
        keep_frozen(self.model)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Levels:
        """(B, 3, H, W) -> levels (B, C_i, H_i, W_i), in full precision also under autocast."""
        with torch.autocast(x.device.type, enabled=False):
            return self._levels(x.float())

    def _levels(self, x: Tensor) -> Levels:
        if self.cache is None or not self.training:
            return tuple(self.model(x))
        paths = [self.cache / f'{key}.safetensors' for key in self.keys(x)]
        stored = [_read(path) for path in paths]
        missing = [i for i, levels in enumerate(stored) if levels is None]
        if missing:
            computed = [level.half().cpu() for level in self.model(x[missing])]
            for row, i in enumerate(missing):
                levels = [level[row] for level in computed]
                _write(paths[i], levels)
                stored[i] = levels
        return tuple(torch.stack(row).to(x.device, x.dtype) for row in zip(*stored))

    def keys(self, x: Tensor) -> list[str]:
        """A name for each picture of ``x`` under the present weights."""
        salt = self._fingerprint().encode()
        pictures = x.detach().cpu().contiguous().numpy()
        return [hashlib.blake2b(p.tobytes() + salt, digest_size=16).hexdigest() for p in pictures]

    def _fingerprint(self) -> str:
        # An in-place change (loading a checkpoint) counts up a tensor's version.
        state = self.model.state_dict(keep_vars=True)
        version = tuple(value._version for value in state.values())
        if self._weights is None or self._weights[0] != version:
            digest = hashlib.blake2b(digest_size=16)
            for value in state.values():
                digest.update(value.detach().cpu().numpy().tobytes())
            self._weights = (version, digest.hexdigest())
        return self._weights[1]


def _read(path: Path) -> list[Tensor] | None:
    """The remembered levels; None where there are none, or the file is damaged."""
    try:
        stored = load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None
    return [stored[str(level)] for level in range(len(stored))]


def _write(path: Path, levels: list[Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.stem}.{os.getpid()}.part')  # other processes see whole files
    save_file({str(k): level.contiguous() for k, level in enumerate(levels)}, part)
    part.replace(path)
