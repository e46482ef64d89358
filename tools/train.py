"""Train a model; docs/cluster.md has several GPUs, nodes and time limits.

    python tools/train.py aml_caris_swin-b_2xb8-50e_refcoco-448x448 --amp --resume \\
        --cfg-options randomness.seed=1
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmseg_aml.command_line import ToolParser, read_config, run
from mmseg_aml.engine.config_check import check_parallel, describe_unknown_keys
from mmseg_aml.engine.distributed import LAUNCHERS, prepare_launcher, timeout_of
from mmseg_aml.engine.loader_defaults import set_loader_defaults
from mmseg_aml.engine.precision import CHOICES, float32_products
from mmseg_aml.engine.randomness import allow_repeatable_kernels


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_argument('--work-dir', help='default: ./work_dirs/<config name>')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or from the newest good one of the work folder',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16, or float16 where that is all'
    )
    parser.add_argument(
        '--float32', choices=CHOICES, default='exact', help='fast: TF32 on a GPU, oneDNN on a CPU'
    )
    parser.add_argument(
        '--compile', action='store_true', help='torch.compile of image tower and decoder'
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    # torch.distributed.launch and mim pass one of the two spellings.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(arguments)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def use_amp(config: Config) -> None:
    """Swap the plain optimizer wrapper for a mixed-precision one.

    Raises:
        ValueError: If the config has a wrapper of its own that is no mixed-precision one.
    """
    wrapper = config.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind in ('AmpOptimWrapper', 'mmseg_aml.Bf16OptimWrapper'):
        return
    if kind != 'OptimWrapper':
        raise ValueError(f'--amp cannot replace optim_wrapper.type={kind!r}: set it in the config')
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
    else:
        wrapper.type = 'mmseg_aml.Bf16OptimWrapper'


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's options put over it."""
    config = read_config(args)
    config.launcher = args.launcher
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.amp:
        use_amp(config)
    if args.compile:
        config.custom_hooks = [*config.get('custom_hooks', []), dict(type='mmseg_aml.CompileHook')]
    set_loader_defaults(config)
    if args.resume is not None:
        config.resume = True
        config.load_from = None if args.resume == 'auto' else args.resume
    return config


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    config = load_config(args)
    check_parallel(config)
    for sentence in describe_unknown_keys(config.to_dict()):
        print_log(sentence, logger='current', level=logging.WARNING)
    allow_repeatable_kernels(config)
    prepare_launcher(args.launcher, timeout_of(config))
    build: Any = RUNNERS.build if 'runner_type' in config else Runner.from_cfg
    with float32_products(args.float32, torch.device(get_device())):
        build(config).train()


if __name__ == '__main__':
    run(main)
