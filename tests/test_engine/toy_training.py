"""A model, a data set and a Runner config that train in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module(force=True)
class ToyData(Dataset):
    """``size`` random vectors; the target is their sum. Every draw adds global random noise."""

    metainfo: dict[str, Any] = {}

    def __init__(self, size: int = 12, noise: float = 0.1, bad: int | None = None) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(size, 4, generator=generator)
        if bad is not None:
            self.x[bad] = float('nan')
        self.noise = noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        x = self.x[index]
        return {'inputs': x + self.noise * torch.rand(4), 'target': x.nan_to_num().sum()}


@MODELS.register_module(force=True)
class ToyModel(BaseModel):
    """Batch norm (a buffer), dropout (model randomness) and two linear layers."""

    def __init__(self, width: int = 8, dropout: float = 0.2, norm: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width),
            nn.BatchNorm1d(width) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, 1),
        )

    def forward(
        self, inputs: Any, target: Any = None, item: Any = None, mode: str = 'tensor'
    ) -> Any:
        x = torch.stack(list(inputs)) if isinstance(inputs, list) else inputs
        y = self.layers(x).squeeze(1)
        if mode == 'loss':
            return {'loss': (y - torch.as_tensor(target)).square().mean()}
        return [{'y': float(value)} for value in y]


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    """Draws random numbers, as a careless validation may."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        torch.rand(3)
        self.results.extend(sample['y'] for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {'score': float(sum(results))}


def toy_config(work_dir: Path, **changes: Any) -> dict[str, Any]:
    """A Runner config: 3 epochs of 4 batches of 3, checkpoints and validation every epoch."""
    loader = dict(
        batch_size=3,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='ToyData'),
    )
    config = dict(
        model=dict(type='ToyModel'),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='ToyMetric'),
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
        val_cfg={},
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.05)),
        param_scheduler=dict(type='PolyLR', power=0.9, begin=0, end=12, by_epoch=False),
        default_hooks=dict(
            param_scheduler=dict(type='mmseg_aml.ScheduleHook'),
            checkpoint=dict(type='mmseg_aml.AtomicCheckpointHook', interval=1),
            exact_resume=dict(type='mmseg_aml.ExactResumeHook'),
            interrupt=dict(type='mmseg_aml.InterruptHook', interval=1),
            pending_validation=dict(type='mmseg_aml.PendingValidationHook'),
            nonfinite=dict(type='mmseg_aml.NonFiniteHook'),
        ),
        randomness=dict(seed=3),
        log_level='WARNING',
        experiment_name=f'toy_{work_dir.name}',
        default_scope='mmengine',
    )
    config.update(changes)
    return config
