"""Reading weight files without running code, and the parts of their dicts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...engine.checkpoints import read_checkpoint, without_module

State = dict[str, Tensor]


def load_file(path: str | Path) -> dict[str, Any]:
    """:func:`read_checkpoint` of an official file.

    ``argparse.Namespace``, which official training scripts save, is let through.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):
        return read_checkpoint(path)


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
    return without_module(state)


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under ``prefix``, which is cut off."""
    return {key[len(prefix) :]: v for key, v in state.items() if key.startswith(prefix)}


def add_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """All entries, with ``prefix`` put before their names."""
    return {prefix + key: value for key, value in state.items()}
