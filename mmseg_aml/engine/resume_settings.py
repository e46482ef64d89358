"""The settings that a checkpoint was trained with, against those of the config."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

# Optimizers and schedulers resume with these from the checkpoint; all others are the config's.
IN_THE_CHECKPOINT = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg', 'param_scheduler')
_SECTIONS = ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr')


def settings_of(config: Config) -> dict[str, Any]:
    """The sections of a config that decide how weights are updated, as plain containers."""
    found = {name: _plain(config.get(name)) for name in _SECTIONS if config.get(name) is not None}
    loader = config.get('train_dataloader')
    if isinstance(loader, Mapping) and 'batch_size' in loader:
        found['train_dataloader'] = {'batch_size': loader['batch_size']}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, '__qualname__', str(value))


def _flat(value: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _flat(item, f'{name}.{key}' if name else str(key))
    else:
        yield name, value


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """``key: (in the checkpoint, in the config)``; a key that one has not is ``'not set'``."""
    here, there = dict(_flat(dict(saved))), dict(_flat(dict(now)))
    return {
        key: (here.get(key, 'not set'), there.get(key, 'not set'))
        for key in [*here, *(key for key in there if key not in here)]
        if here.get(key, 'not set') != there.get(key, 'not set')
    }


def describe(found: Mapping[str, tuple[Any, Any]]) -> str:
    """``key: value (checkpoint), value (config); ...``."""
    return '; '.join(
        f'{key}: {saved!r} (checkpoint), {now!r} (config)' for key, (saved, now) in found.items()
    )


def take_over(config: Config, saved: Mapping[str, Any]) -> None:
    """Write into a Runner's config what its optimizer and schedulers have from the checkpoint."""
    wrapper, old = config.get('optim_wrapper'), saved.get('optim_wrapper', {})
    if isinstance(wrapper, dict):
        for key in ('optimizer', 'paramwise_cfg'):
            if key in old:
                wrapper[key] = old[key]
    if 'param_scheduler' in saved:
        config['param_scheduler'] = saved['param_scheduler']


def group_settings(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parameter groups of an optimizer wrapper's state, MMEngine's base group included."""
    extra = state.get('base_param_settings')
    return [*state['param_groups'], *([extra] if extra is not None else [])]


def scale_lr(checkpoint: dict[str, Any], factor: float) -> None:
    """Multiply the learning rates in a checkpoint, those that its schedules start from too."""
    for group in group_settings(checkpoint['optimizer']):
        for key in ('lr', 'initial_lr', 'max_lr', 'min_lr'):
            if key in group:
                group[key] = group[key] * factor
    for scheduler in checkpoint.get('param_schedulers', []):
        if scheduler.get('param_name') == 'lr':
            for key in ('base_values', '_last_value'):
                scheduler[key] = [value * factor for value in scheduler[key]]


def config_wins(runner: Runner, checkpoint: dict[str, Any], epochs: int, iterations: int) -> None:
    """Put the config's optimizer settings and schedules into ``checkpoint``.

    The schedules are run from their beginning to the present step, as if the config had been so
    from the beginning; the optimizer's moments stay.
    """
    schedulers: Any = runner.param_schedulers or []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # steps before the optimizer's
        for by_epoch, steps in ((False, iterations), (True, epochs)):
            for _ in range(steps):
                for scheduler in schedulers:
                    if scheduler.by_epoch == by_epoch:
                        scheduler.step()
    checkpoint.pop('param_schedulers', None)
    wrapper: Any = runner.optim_wrapper
    ours = group_settings(wrapper.state_dict())
    for group, built in zip(group_settings(checkpoint['optimizer']), ours):
        group.update({key: value for key, value in built.items() if key != 'params'})
