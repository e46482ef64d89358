"""Reading weight files without running code, and the parts of their dicts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

State = dict[str, Tensor]


def load_file(path: str | Path) -> Any:
    """Read a checkpoint (local file, or any address MMEngine reads) without running code.

    ``argparse.Namespace``, which official training scripts save, is let through.

    Raises:
        FileNotFoundError: If a local ``path`` is missing.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        if '://' in str(path):
            return CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
        if not Path(path).is_file():
            raise FileNotFoundError(
                f'no such checkpoint: {path}; put the file there, or change the path where it is '
                'set (init_cfg.checkpoint, load_from)'
            )
        return torch.load(path, map_location='cpu', weights_only=True)


def state_of(checkpoint: Mapping[str, Any]) -> State:
    """The weights of ``{state_dict: ...}``, ``{model: ...}`` or a bare dict, ``module.`` stripped.

    Raises:
        ValueError: If what is left is not a dict of tensors.
    """
    state = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            'expected a dict of tensors, bare or under "state_dict" or "model"; '
            f'got the entries {sorted(checkpoint)[:8]}'
        )
    return {key[7:] if key.startswith('module.') else key: v for key, v in state.items()}


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under ``prefix``, which is cut off."""
    return {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}


def add_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """All entries, with ``prefix`` put before their names."""
    return {prefix + key: value for key, value in state.items()}
