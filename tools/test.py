"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmseg_aml.engine.checkpoints import load_for_test
from mmseg_aml.engine.distributed import LAUNCHERS, prepare_launcher, timeout_of


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or address')
    parser.add_argument('--work-dir', help='default: ./work_dirs/<config name>')
    parser.add_argument('--split', help="another split of the config's data set, such as testA")
    parser.add_argument('--out', help='write the predicted masks to this JSON file, as COCO RLE')
    parser.add_argument('--json', help='write the metrics to this JSON file')
    parser.add_argument('--show-dir', help='draw predictions into this folder')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config keys: a.b=value ...'
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(arguments)
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


def draw_predictions(config: Config, folder: str) -> None:
    """Draw the expressions that the visualization hook chooses into ``folder``.

    Raises:
        ValueError: If the config has no visualization hook.
    """
    if config.get('default_hooks', {}).get('visualization') is None:
        raise ValueError('--show-dir needs default_hooks.visualization in the config')
    config.visualizer.save_dir = folder
    config.visualizer.vis_backends = [dict(type='LocalVisBackend')]


def load_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's options put over it."""
    config = Config.fromfile(args.config)
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    config.launcher = args.launcher
    if args.work_dir is not None:
        config.work_dir = args.work_dir
    elif config.get('work_dir') is None:
        config.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.split is not None:
        set_split(config, args.split)
    if args.out is not None:
        write_predictions(config, args.out)
    if args.show_dir is not None:
        draw_predictions(config, args.show_dir)
    # The file is loaded by the Runner's test, strictly.
    config.load_from = None
    config.resume = False
    return config


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    args = parse_args(arguments)
    config = load_config(args)
    prepare_launcher(args.launcher, timeout_of(config))
    runner = Runner.from_cfg(config)
    load_for_test(runner, args.checkpoint)
    metrics = runner.test()
    if args.json is not None and is_main_process():
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(metrics, indent=2) + '\n', encoding='utf-8')
    return metrics


if __name__ == '__main__':
    main()
