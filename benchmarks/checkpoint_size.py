"""Checkpoints of real size: write, read, resume and keep the best, against ``torch.save`` alone.

``python benchmarks/checkpoint_size.py [--gigabytes 2.4] [--json FILE]``. The model is random
numbers with AdamW's two moments beside each, as Swin-B with BERT has them. Every step runs in a
process of its own, whose peak memory is that of the step; seconds are CPU seconds of the main
process, since a shared disk's speed is nobody's merit, and the bytes are those it asked the
kernel for.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn

import mmseg_aml  # noqa: F401
from mmseg_aml.engine.checkpoints import read_checkpoint

LAYER = 2**22  # numbers in a layer: 16 MB


@MODELS.register_module()
class Numbers(BaseModel):
    """``layers`` layers of random numbers; its loss reaches every one of them."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ParameterList(torch.randn(LAYER) for _ in range(layers))

    def forward(self, inputs: Any, mode: str = 'tensor') -> Any:
        return {'loss': sum(layer[:4].sum() for layer in self.layers) * 1e-3}


def runner_of(folder: Path, layers: int, resume: bool = False, ours: bool = True) -> Runner:
    """One iteration an epoch, with this package's hooks or MMEngine's own."""
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler'),
        dataset=dict(type='TwoZeros'),
    )
    kind = 'mmseg_aml.AtomicCheckpointHook' if ours else 'CheckpointHook'
    return Runner.from_cfg(
        dict(
            model=dict(type='Numbers', layers=layers),
            work_dir=str(folder),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1 + resume),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3, foreach=False)),
            default_hooks=dict(
                checkpoint=dict(type=kind, max_keep_ckpts=1),
                param_scheduler=dict(type='mmseg_aml.ScheduleHook', rescale=True),
                exact_resume=dict(type='mmseg_aml.ExactResumeHook'),
            ),
            resume=resume,
            default_scope='mmengine',
            log_level='ERROR',
            experiment_name=f'size_{resume}',
        )
    )


@DATASETS.register_module()
class TwoZeros(torch.utils.data.Dataset):
    """Two samples: one iteration."""

    metainfo: dict[str, Any] = {}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'inputs': torch.zeros(1)}


def content(layers: int) -> dict[str, Any]:
    """Weights and two moments of each."""
    return {
        part: {str(n): torch.randn(LAYER) for n in range(layers)}
        for part in ('state_dict', 'exp_avg', 'exp_avg_sq')
    }


def torch_save(folder: Path, layers: int) -> None:
    state = content(layers)
    start()
    torch.save(state, folder / 'alone.pth')


def torch_load(folder: Path, layers: int) -> None:
    start()
    torch.load(folder / 'alone.pth', weights_only=True)


def read_with_checksums(folder: Path, layers: int) -> None:
    start()
    read_checkpoint(folder / 'alone.pth')


def write(folder: Path, layers: int) -> None:
    runner = runner_of(folder, layers)
    _measure_saving(runner)
    runner.train()


def write_by_mmengine(folder: Path, layers: int) -> None:
    runner = runner_of(folder / 'mmengine', layers, ours=False)
    _measure_saving(runner)
    runner.train()


def resume(folder: Path, layers: int) -> None:
    runner = runner_of(folder, layers, resume=True)
    start()
    runner.train()


def keep_best(folder: Path, layers: int) -> None:
    """What follows a validation with a new best score: the best, and the newest again."""
    runner = runner_of(folder / 'best', layers)
    kept: Any = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
    kept.save_best, kept.rules, kept.key_indicators = ['score'], ['greater'], ['score']
    kept.is_better_than, kept.best_ckpt_path = {'score': lambda x, y: x > y}, None
    end = kept.after_train

    def validated(runner: Runner) -> None:
        start()
        kept.after_val_epoch(runner, {'score': 1.0})
        finish()
        end(runner)

    kept.after_train = validated
    runner.train()


def _measure_saving(runner: Runner) -> None:
    hook: Any = next(h for h in runner.hooks if isinstance(h, CheckpointHook))
    save = hook._save_checkpoint

    def measured(runner: Runner) -> None:
        start()
        save(runner)
        finish()

    hook._save_checkpoint = measured


_begin: dict[str, Any] = {}
_end: dict[str, Any] = {}


def _now() -> dict[str, float]:
    lines = Path('/proc/self/io').read_text().split()
    return dict(
        cpu=time.process_time(),
        read=float(lines[1]) / 1e9,
        written=float(lines[3]) / 1e9,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    )


def _resident() -> float:
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e9


def start() -> None:
    """The step begins; what is resident now is not its doing."""
    Path('/proc/self/clear_refs').write_text('5')  # the peak is counted from here
    _begin.update(_now(), resident=_resident())


def finish() -> None:
    """The step ends here, not at the end of the process."""
    if not _end:
        status = Path('/proc/self/status').read_text()
        peak = next(line for line in status.splitlines() if line.startswith('VmHWM'))
        _end.update(_now(), peak=int(peak.split()[1]) / 1e6)


STEPS = (
    torch_save,
    torch_load,
    read_with_checksums,
    write,
    write_by_mmengine,
    resume,
    keep_best,
)


def _run(step: Any, folder: Path, layers: int, results: Any) -> None:
    torch.set_num_threads(1)
    step(folder, layers)
    finish()
    results.put(
        dict(
            cpu_seconds=round(_end['cpu'] - _begin['cpu'], 2),
            gigabytes_read=round(_end['read'] - _begin['read'], 2),
            gigabytes_written=round(_end['written'] - _begin['written'], 2),
            more_memory_gigabytes=round(max(0.0, _end['peak'] - _begin['resident']), 2),
        )
    )


def measure(gigabytes: float, folder: Path) -> dict[str, Any]:
    """One process for each step, one after the other."""
    layers = max(1, round(gigabytes * 1e9 / (3 * 4 * LAYER)))
    context = multiprocessing.get_context('fork')
    report: dict[str, Any] = {'gigabytes': round(layers * 3 * 4 * LAYER / 1e9, 2)}
    for step in STEPS:
        results = context.SimpleQueue()
        process = context.Process(target=_run, args=(step, folder, layers, results))
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f'{step.__name__} ended with {process.exitcode}')
        report[step.__name__] = results.get()
        print(step.__name__, report[step.__name__], flush=True)
    return report


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--gigabytes', type=float, default=2.4)
    parser.add_argument('--folder', type=Path, help='where to write; default: a temporary one')
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report = measure(args.gigabytes, Path(folder))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return report


if __name__ == '__main__':
    main()
