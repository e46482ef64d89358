"""A Runner's checkpoint, written to the disk as it is serialised."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import master_only
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from mmengine.utils import apply_to

from mmseg_aml.engine.atomic_files import write_atomically
from mmseg_aml.engine.checkpoints import bare_model


@master_only
def save_checkpoint(
    runner: Runner,
    out_dir: str | Path,
    filename: str,
    file_client_args: None = None,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    meta: dict[str, Any] | None = None,
    by_epoch: bool = True,
    backend_args: None = None,
) -> None:
    """``Runner.save_checkpoint`` for a local folder: the same content, atomically, as a stream.

    MMEngine's method holds the serialised file twice in memory before it writes.

    Raises:
        OSError: As :func:`write_atomically`.
    """
    progress = {
        'epoch': runner.epoch + 1 if by_epoch else runner.epoch,
        'iter': runner.iter if by_epoch else runner.iter + 1,
    }
    checkpoint: dict[str, Any] = {
        'meta': {
            **progress,
            **(meta or {}),
            'cfg': runner.cfg.pretty_text,
            'seed': runner.seed,
            'experiment_name': runner.experiment_name,
            'time': time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            'mmengine_version': mmengine.__version__,
        },
        'state_dict': weights_to_cpu(bare_model(runner).state_dict()),
        'message_hub': _on_cpu(runner.message_hub.state_dict()),
    }
    dataset: Any = getattr(runner.train_dataloader, 'dataset', None)
    if hasattr(dataset, 'metainfo'):
        checkpoint['meta']['dataset_meta'] = dataset.metainfo
    wrapper: Any = runner.optim_wrapper
    if save_optimizer:
        checkpoint['optimizer'] = _on_cpu(wrapper.state_dict())
    if save_param_scheduler and runner.param_schedulers is not None:
        checkpoint['param_schedulers'] = _states(runner.param_schedulers)
    runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    write_atomically(Path(out_dir) / filename, lambda file: torch.save(checkpoint, file))


def _on_cpu(state: Any) -> Any:
    return apply_to(state, lambda value: hasattr(value, 'cpu'), lambda value: value.cpu())


def _states(schedulers: Any) -> Any:
    if isinstance(schedulers, dict):
        return {name: _states(group) for name, group in schedulers.items()}
    return [scheduler.state_dict() for scheduler in schedulers]
