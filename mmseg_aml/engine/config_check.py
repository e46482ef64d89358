"""Misspelt top-level keys of a config, which MMEngine accepts in silence, and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.runner import Runner

# Keys that MMEngine reads from the config itself, beside the Runner's own arguments.
_READ_FROM_CONFIG = {
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'gpu_ids',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}


def known_keys() -> set[str]:
    """Top-level keys that have an effect."""
    return (set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}) | (
        _READ_FROM_CONFIG
    )


def _walk(value: Any) -> Iterator[Any]:
    yield value
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, (Mapping, list, tuple)):
        for item in items:
            yield from _walk(item)


def unknown_keys(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Top-level keys without effect -> the known key that was probably meant, or None.

    A variable of the config (``train_pipeline``, ``norm_cfg``) is known by its value standing
    somewhere under a known key. Numbers and strings may be variables that were computed with, so
    they are named only where they resemble a known key.
    """
    known = known_keys()
    used = [item for key in config if key in known for item in _walk(config[key])]
    found = {}
    for key, value in config.items():
        if key in known:
            continue
        meant = next(iter(get_close_matches(key, known, n=1, cutoff=0.8)), None)
        is_structure = isinstance(value, (Mapping, list, tuple)) and len(value) > 0
        if (meant or is_structure) and not _stands_in(value, used):
            found[key] = meant
    return found


def _stands_in(value: Any, used: list[Any]) -> bool:
    parts = [value]
    if isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value):
        parts += list(value)  # a list of which elements are used, as in `[*augment, ...]`
    return any(part == item for part in parts for item in used if type(item) is type(part))


def describe_unknown_keys(config: Mapping[str, Any]) -> list[str]:
    """One sentence for each of :func:`unknown_keys`."""
    return [
        f'config key {key!r} has no effect'
        + (f': did you mean {meant!r}?' if meant else ': nothing reads it')
        for key, meant in unknown_keys(config).items()
    ]


def check_parallel(config: Mapping[str, Any]) -> None:
    """Refuse parallel training other than DDP: sharded weights are not supported.

    Raises:
        ValueError: If the config asks for MMEngine's FlexibleRunner (FSDP, DeepSpeed, ColossalAI)
            or its FSDP wrapper.
    """
    wrapper = config.get('model_wrapper_cfg') or {}
    asked = {
        'runner_type': config.get('runner_type') == 'FlexibleRunner',
        'strategy': 'strategy' in config,
        'model_wrapper_cfg': 'FullyShardedDataParallel' in str(wrapper.get('type')),
    }
    found = [key for key, is_asked in asked.items() if is_asked]
    if found:
        raise ValueError(
            f'FSDP and the other strategies of FlexibleRunner are not supported (config key '
            f'{", ".join(found)}): remove it. The plain Runner trains with DDP, and '
            'activation_checkpointing or with_cp saves memory'
        )
