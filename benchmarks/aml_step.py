"""What AML and MaskRIS cost: FLOPs, time and memory of a training step against plain training.

    python benchmarks/aml_step.py configs/caris/caris_swin-b_2xb8-50e_refcoco-448x448.py --flops
    python benchmarks/aml_step.py CONFIG --image-size 128 --batch 2 --repeats 5 --json OUT.json

For any config, with random weights. FLOPs (``torch.utils.flop_counter``: products and
convolutions, forward and backward) and, on a CPU, peak memory come from a step with fake
tensors: exact, and free at any size. Memory is that of activations and gradients, beyond
weights and optimizer. Times are measured, all variants in turn within every round, as medians
of the ratios to plain of the same round; on a CPU in CPU seconds.

CARIS is counted in the arithmetic of its release (``published_arithmetic.py``), which the
paper's "+17.2 %" refers to. Our decoder needs 43 % fewer FLOPs, so that the same stage 1 is a
larger share of our step: ``flops_ratio_ours``, equal to ``flops_ratio`` on all other hosts.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault('HF_HUB_OFFLINE', '1')  # weights do not matter here

import torch
from hosts import BERT, samples_for
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from published_arithmetic import published_arithmetic
from step_counts import count
from torch import Tensor, nn
from tqdm import tqdm

import mmseg_aml.models  # noqa: F401  registers
from mmseg_aml.models.decode_heads.caris_head import CARISHead
from mmseg_aml.registry import MODELS

AML = dict(type='mmseg_aml.AMLLossWrapper')
VARIANTS: dict[str, dict[str, Any] | None] = {
    'plain': None,
    'paper': AML,
    'literal': dict(
        AML,
        estimator=dict(type='mmseg_aml.PMME', temperature=1.0),
        filter=dict(type='mmseg_aml.LiteralAFM'),
    ),
    'release': dict(type='mmseg_aml.AMLReleaseLossWrapper'),
    'random': dict(AML, control='random'),
    'half': dict(AML, estimator=dict(type='mmseg_aml.PMME', level=-2), stage1_scale=0.5),
    'two-view': dict(AML, clean_weight=0.5),
    'maskris': dict(type='mmseg_aml.MaskRISLossWrapper'),
}
SAME_WORK = {'literal': 'paper', 'random': 'paper'}  # other blocks, the same network passes


def build(path: str) -> Any:
    """The config's model in train mode, random weights, on the CPU."""
    config = Config.fromfile(path)
    init_default_scope(config.get('default_scope', 'mmseg'))
    model = copy.deepcopy(config.model)
    model.loss_wrapper = None
    try:
        built = MODELS.build(model)
    except OSError:
        text = model.text_encoder
        print(f'{text.name} is not on this machine: a random BERT of base size instead')
        text.update(name=None, tokenizer='tiny', config=BERT)
        built = MODELS.build(model)
    return revert_sync_batchnorm(built).train()


def image_size(path: str) -> int:
    """Side of the config's training images."""
    dataset = Config.fromfile(path).train_dataloader.dataset
    steps = dataset.get('datasets', [dataset])[0]['pipeline']
    return next(step['size'] for step in steps if 'size' in step)[0]


def wrapper_of(name: str) -> nn.Module | None:
    """The variant's ``loss_wrapper``."""
    strategy = VARIANTS[name]
    return None if strategy is None else MODELS.build(strategy)


def step(model: Any, images: Tensor, samples: list[Any]) -> None:
    """Forward and backward; as in training, one loss per step."""
    model.parse_losses(model.loss(images, samples))[0].backward()


def counts(
    model: Any, names: list[str], batch: int, size: int, expressions: int = 1
) -> dict[str, dict[str, float]]:
    """``gflops``, ``gflops_ours`` and ``memory_mib`` of every variant."""
    published = isinstance(model.decode_head, CARISHead)
    found: dict[str, dict[str, float]] = {}
    bar = tqdm(sorted(names, key=lambda name: name in SAME_WORK), desc='counting')
    for name in bar:
        if SAME_WORK.get(name) in found:
            found[name] = found[SAME_WORK[name]]
            continue
        ours, memory = count(
            model, VARIANTS[name], batch, size, contextlib.nullcontext, expressions
        )
        gflops = ours
        if published:
            gflops = count(model, VARIANTS[name], batch, size, published_arithmetic, expressions)[0]
        found[name] = dict(gflops=gflops, gflops_ours=ours, memory_mib=memory)
    return found


# --- measured ----------------------------------------------------------------


class Timer:
    """Seconds and, on a GPU, peak memory of real steps of one model."""

    def __init__(
        self, model: Any, batch: int, size: int, device: str, expressions: int = 1
    ) -> None:
        self.model, self.device = model.to(device), device
        self.images = torch.randn(batch, 3, size, size, device=device)
        self.samples = [sample.to(device) for sample in samples_for(batch, expressions, size)]
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def measure(self, wrapper: nn.Module | None) -> dict[str, float]:
        """One step with ``wrapper``."""
        cuda = self.device == 'cuda'
        clock = time.perf_counter if cuda else time.process_time
        self.model.loss_wrapper = wrapper
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated() if cuda else 0
        start = clock()
        step(self.model, self.images, self.samples)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if not cuda:
            return dict(seconds=clock() - start)
        torch.cuda.synchronize()
        memory = (torch.cuda.max_memory_allocated() - idle) / 2**20
        return dict(seconds=clock() - start, memory_mib=memory)


def times(timer: Timer, names: list[str], repeats: int) -> dict[str, dict[str, float]]:
    """Medians of ``seconds``, ``time_ratio`` and, on a GPU, ``memory_mib``."""
    wrappers = {name: wrapper_of(name) for name in names}
    rounds = []
    for _ in tqdm(range(repeats + 1), desc='timing'):
        rounds.append({name: timer.measure(wrappers[name]) for name in names})
    found: dict[str, dict[str, float]] = {}
    for name in names:
        kept = [one[name] for one in rounds[1:]]  # the first round warms up
        found[name] = {key: statistics.median(one[key] for one in kept) for key in kept[0]}
        ratios = (one[name]['seconds'] / one['plain']['seconds'] for one in rounds[1:])
        found[name]['time_ratio'] = statistics.median(ratios)
    return found


# --- command line ------------------------------------------------------------


def report_of(numbers: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Adds the ratios; None where a variant was not measured."""
    sources = dict(flops_ratio='gflops', flops_ratio_ours='gflops_ours', memory_ratio='memory_mib')
    report: dict[str, dict[str, float | None]] = {}
    for name in VARIANTS:
        own = numbers.get(name, {})
        ratios = {
            ratio: own[key] / numbers['plain'][key] if key in own else None
            for ratio, key in sources.items()
        }
        report[name] = {**ratios, 'time_ratio': None, **own}
    return report


def table(report: dict[str, Any]) -> str:
    """One line per variant."""
    keys = ('flops_ratio', 'flops_ratio_ours', 'time_ratio', 'memory_ratio')
    lines = [f'{"":10}' + ''.join(f'{key:>18}' for key in keys)]
    for name in VARIANTS:
        cells = ('-' if report[name][k] is None else f'{report[name][k]:.3f}' for k in keys)
        lines.append(f'{name:10}' + ''.join(f'{cell:>18}' for cell in cells))
    return '\n'.join(lines)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file; its loss_wrapper does not matter')
    parser.add_argument('--flops', action='store_true', help='count only, measure no times')
    parser.add_argument('--json', type=Path, help='where to write the figures')
    parser.add_argument(
        '--variants', nargs='+', choices=list(VARIANTS), default=list(VARIANTS), help='default: all'
    )
    parser.add_argument('--image-size', type=int, help="side in pixels; default: the config's")
    parser.add_argument('--batch', type=int, default=2, help='images')
    parser.add_argument('--expressions', type=int, default=1, help='per image')
    parser.add_argument('--repeats', type=int, default=3, help='rounds after the warm-up')
    parser.add_argument('--device', default='cpu', choices=['cpu', 'cuda'])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Prints the table and returns what ``--json`` writes."""
    args = parse_args(argv)
    size = args.image_size or image_size(args.config)
    names = [name for name in VARIANTS if name == 'plain' or name in args.variants]
    if size % 32 and 'release' in names:
        names.remove('release')
        print(f'release: not for images of side {size}, only for multiples of 32')
    torch.manual_seed(0)
    model = build(args.config)
    numbers = counts(model, names, args.batch, size, args.expressions)
    if not args.flops:
        timed = times(
            Timer(model, args.batch, size, args.device, args.expressions), names, args.repeats
        )
        numbers = {name: {**numbers[name], **timed[name]} for name in names}
    report: dict[str, Any] = report_of(numbers)
    print(table(report))
    machine = torch.cuda.get_device_name() if args.device == 'cuda' else platform.machine()
    report['settings'] = dict(
        config=Path(args.config).name,
        image_size=size,
        batch=args.batch,
        expressions=args.expressions,
        repeats=0 if args.flops else args.repeats,
        machine=machine,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + '\n')
    return report


if __name__ == '__main__':
    main()
