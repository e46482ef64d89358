"""Checkpoints as files: read once with clear errors, compare with a model, hand to a Runner."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn

from mmseg_aml.engine.summed_file import load_summed

STRATEGY = 'loss_wrapper.'  # keys of what only training has


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or does not fit the model; the text names the file."""


def read_checkpoint(path: str | Path, map_location: str = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Args:
        path: A local file, or any address MMEngine reads.
        map_location: Where tensors go.

    Raises:
        FileNotFoundError: If a local file is missing; lists the checkpoints beside it.
        CheckpointError: If it is truncated, corrupt (a wrong checksum counts), no checkpoint, or
            holds objects other than tensors and MMEngine's records.
    """
    local = '://' not in str(path)
    path = Path(path).expanduser() if local else path
    if local and not Path(path).is_file():
        beside = sorted(p.name for p in Path(path).parent.glob('*.pth'))
        raise FileNotFoundError(
            f'no checkpoint {path}; in its folder: {beside or "none"}. Put the file there, or '
            'change the path where it is set (command line, init_cfg.checkpoint, load_from)'
        )
    try:
        if local and zipfile.is_zipfile(path):  # older formats have no checksums
            checkpoint = load_summed(path, map_location)
        else:
            checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location=map_location)
    except pickle.UnpicklingError as error:
        if _names_a_forbidden_object(error):
            raise CheckpointError(
                f'{path} holds objects that may run code when read, so it was not read: '
                f'{_first_line(error)}. If you trust its source, set '
                'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for this one run'
            ) from error
        raise _corrupt(path, error) from error
    except Exception as error:  # damaged bytes end in any of a dozen kinds
        raise _corrupt(path, error) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{path} holds a {type(checkpoint).__name__}, not a dict with state_dict: it is no '
            'checkpoint of MMEngine'
        )
    return checkpoint


_FORBIDDEN = re.compile(r'Unsupported (global|class)|not allowed|blocked|disallowed', re.I)


def _names_a_forbidden_object(error: BaseException) -> bool:
    # Damaged bytes also end in an UnpicklingError, about operands and offsets.
    return _FORBIDDEN.search(str(error)) is not None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if _FORBIDDEN.search(line)]
    return (telling or lines or [type(error).__name__])[0][:300]


def _corrupt(path: str | Path, error: BaseException) -> CheckpointError:
    size = f', {Path(path).stat().st_size} bytes' if Path(path).is_file() else ''
    return CheckpointError(
        f'{path} is truncated or corrupt ({type(error).__name__}: {_first_line(error)}{size}). '
        'Copy it again, or use an earlier checkpoint; --resume alone falls back by itself'
    )


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's weights of ``{state_dict: ...}`` or a bare dict, ``module.`` stripped.

    What a training strategy learned for itself (``loss_wrapper.``) is no part of the network.
    """
    return {k: v for k, v in _tensors(checkpoint).items() if not k.startswith(STRATEGY)}


def _tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    state = checkpoint.get('state_dict', checkpoint)
    return {key: v for key, v in without_module(state).items() if isinstance(v, Tensor)}


def without_module(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries without the prefix ``module.`` of DDP, which not all of them need to have."""
    return {key.removeprefix('module.'): value for key, value in state.items()}


def check_fits(
    model: nn.Module, checkpoint: Mapping[str, Any], source: str | Path, *, resume: bool = False
) -> None:
    """Compare keys and shapes, since MMEngine loads whatever fits and only logs the rest.

    Args:
        resume: Compare also what the training strategy learned for itself.

    Raises:
        CheckpointError: Listing missing, unexpected and differently shaped weights.
    """
    weights = _tensors if resume else weights_of
    ours, theirs = weights(model.state_dict()), weights(checkpoint)
    problems = {
        'missing': [key for key in ours if key not in theirs],
        'unexpected': [key for key in theirs if key not in ours],
        'other shapes': [
            f'{key} {tuple(theirs[key].shape)}, expected {tuple(ours[key].shape)}'
            for key in ours
            if key in theirs and theirs[key].shape != ours[key].shape
        ],
    }
    found = [
        f'{len(keys)} {name}: {"; ".join(keys[:5])}{" ..." if len(keys) > 5 else ""}'
        for name, keys in problems.items()
        if keys
    ]
    if found:
        raise CheckpointError(
            f'{source} is a checkpoint of another architecture than the config ({len(ours)} '
            f'weights expected). ' + '. '.join(found)
        )


# --- from the hand of a hook into the Runner ---------------------------------
# A Runner loads from an address. Reading first, to check, and then giving it the same file's
# address would read gigabytes twice.

_MEMORY = 'memory:'
_handed: dict[str, dict[str, Any]] = {}


def load_from_memory(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's loader of what :func:`hand_over` was given; it can be taken once.

    Tensors stay where they were read to: models and optimizers copy them to their own devices.
    """
    return _handed.pop(filename)


CheckpointLoader.register_scheme(prefixes=_MEMORY, loader=load_from_memory, force=True)


def hand_over(runner: Runner, path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Have ``runner`` load or resume from a checkpoint that was read already."""
    address = f'{_MEMORY}{path}'
    _handed[address] = checkpoint
    runner._load_from = address


def is_handed(address: object) -> bool:
    """Whether a Runner's ``load_from`` is the work of :func:`hand_over`."""
    return str(address) in _handed


def load_for_test(runner: Runner, weights: str | Path) -> None:
    """Have ``runner.test()`` load ``weights``, which must fit, when its hooks are ready for it.

    Raises:
        FileNotFoundError: If there are no such weights.
        CheckpointError: If they cannot be read or do not fit the model.
    """
    checkpoint = read_checkpoint(weights)
    check_fits(bare_model(runner), checkpoint, weights)
    hand_over(runner, weights, checkpoint)


def bare_model(runner: Runner) -> nn.Module:
    """The model without its wrapper for distributed training."""
    model: Any = runner.model
    return model.module if is_model_wrapper(model) else model
