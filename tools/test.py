"""Test a checkpoint: scores, and on demand masks and pictures.

    python tools/test.py caris_swin-b_2xb8-50e_refcoco-448x448 caris.pth --split testA \\
        --out masks.json --json scores.json --show-dir pictures --show-worst 50
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmseg_aml.command_line import ToolParser, read_config, run, write_json
from mmseg_aml.engine.checkpoints import load_for_test
from mmseg_aml.engine.distributed import LAUNCHERS, prepare_launcher, timeout_of
from mmseg_aml.engine.loader_defaults import set_loader_defaults
from mmseg_aml.engine.precision import CHOICES, float32_products
from mmseg_aml.evaluation.progress_hook import ProgressHook


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_weights(help='checkpoint file or address')
    parser.add_argument('--work-dir', help='default: ./work_dirs/<config name>')
    parser.add_argument('--split', help="another split of the config's data set, such as testA")
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='write the predicted masks here: JSON, COCO RLE'
    )
    parser.add_json('the scores')
    parser.add_argument('--show-dir', metavar='DIR', help='draw every sentence into this folder')
    parser.add_argument('--show-num', type=int, metavar='N', help='draw N, evenly spread, not all')
    parser.add_argument('--show-worst', type=int, metavar='N', help='draw the N of least IoU')
    parser.add_argument(
        '--tta', action='store_true', help='mean over three sizes, and over mirrored sentences'
    )
    parser.add_argument(
        '--float32', choices=CHOICES, default='exact', help='fast: TF32 on a GPU, oneDNN on a CPU'
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(arguments)
    if args.show_dir is None and (args.show_num or args.show_worst) is not None:
        parser.error('--show-num and --show-worst need --show-dir')
    if args.show_num is not None and args.show_worst is not None:
        parser.error('give one of --show-num and --show-worst')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def set_split(config: Config, split: str) -> None:
    """Test another split.

    Raises:
        ValueError: If the test data set has no key ``split``.
    """
    dataset = config.test_dataloader.dataset
    if 'split' not in dataset:
        raise ValueError(f'--split: the test data set {dataset.get("type")} has no key "split"')
    dataset.split = split


def write_predictions(config: Config, path: str) -> None:
    """Have the first RIS or GRES metric write its masks.

    Raises:
        ValueError: If the test evaluator has none.
    """
    evaluator = config.test_evaluator
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        if str(metric.get('type')) in ('mmseg_aml.RISMetric', 'mmseg_aml.GRESMetric'):
            metric['out_file'] = path
            return
    raise ValueError('--out needs mmseg_aml.RISMetric or mmseg_aml.GRESMetric as test_evaluator')


def draw_predictions(config: Config, folder: str, number: int | None, worst: int | None) -> None:
    """Draw into ``folder``: all expressions, ``number`` of them, or the ``worst``."""
    hook = dict(type='mmseg_aml.ShowHook', folder=folder, number=number, worst=worst)
    config.setdefault('default_hooks', {})['visualization'] = hook


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's options put over it."""
    config = read_config(args)
    config.launcher = args.launcher
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.tta:
        settings = config.model.get('test_cfg') or {}
        config.model.test_cfg = {'tta': dict(mirror=True), **settings}
    if args.split is not None:
        set_split(config, args.split)
    if args.out is not None:
        write_predictions(config, str(args.out))
    if args.show_dir is not None:
        draw_predictions(config, args.show_dir, args.show_num, args.show_worst)
    set_loader_defaults(config)
    # The file is loaded by the Runner's test, strictly.
    config.load_from = None
    config.resume = False
    return config


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse_args(arguments)
    config = load_config(args)
    prepare_launcher(args.launcher, timeout_of(config))
    runner = Runner.from_cfg(config)
    load_for_test(runner, args.weights)
    runner.register_hook(ProgressHook())
    with float32_products(args.float32, torch.device(get_device())):
        metrics = runner.test()
    if is_main_process():
        write_json(args.json, metrics)
    return metrics


if __name__ == '__main__':
    run(main)
