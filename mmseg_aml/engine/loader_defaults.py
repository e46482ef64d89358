"""What data loaders are given where a config does not say."""

from __future__ import annotations

import torch
from mmengine.config import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_loader_defaults(config: Config) -> None:
    """Batches of few tensors, in page-locked memory where there is a GPU to copy them to."""
    for name in LOADERS:
        loader = config.get(name)
        if isinstance(loader, dict):
            loader.setdefault('collate_fn', dict(type='mmseg_aml.collate_expressions'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
