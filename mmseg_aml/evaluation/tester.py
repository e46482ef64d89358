"""What the evaluation tools share: a config edited for a test, and a Runner with its weights."""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..command_line import ToolParser, read_config
from ..engine.checkpoints import load_for_test
from ..engine.distributed import LAUNCHERS, prepare_launcher, timeout_of
from ..engine.loader_defaults import set_loader_defaults
from .progress_hook import ProgressHook
from .protocols import get_protocols


def add_test_arguments(parser: ToolParser) -> None:
    """CONFIG WEIGHTS --split --work-dir --cfg-options --launcher."""
    parser.add_config()
    parser.add_weights()
    parser.add_argument('--split', help="another split of the config's test data set")
    parser.add_argument('--work-dir', help='for logs; default: ./work_dirs/<config name>')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_test_config(args: argparse.Namespace) -> Config:
    """The config file with the command line's options put over it, for tables and no pictures."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = read_config(args)
    config.launcher = args.launcher
    default = config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    config.work_dir = args.work_dir or default
    if args.split is not None:
        config.test_dataloader.dataset.split = args.split
    config.load_from, config.resume = None, False
    config.visualizer = None
    config.get('default_hooks', {}).pop('visualization', None)
    return config


def build_tester(config: Config, weights: str) -> Runner:
    """A Runner whose ``test()`` loads ``weights``, which were read and fit.

    Raises:
        FileNotFoundError: If there are no such weights.
        CheckpointError: If they cannot be read or do not fit the model.
    """
    prepare_launcher(config.launcher, timeout_of(config))
    set_loader_defaults(config)
    runner = Runner.from_cfg(config)
    load_for_test(runner, weights)
    runner.register_hook(ProgressHook())
    return runner


def _step(pipeline: Sequence[dict], name: str) -> int:
    names = [str(step['type']).rsplit('.', 1)[-1] for step in pipeline]
    if name not in names:
        raise ValueError(f'the test pipeline has no {name}, only {names}')
    return names.index(name)


def set_protocols(config: Config, protocols: Sequence[str]) -> None:
    """Have the config's test measure under ``protocols``: GRESMetric if it has that, or RISMetric.

    Raises:
        KeyError: If a protocol is unknown.
        ValueError: If polygons are needed and the pipeline has no PackRISInputs.
    """
    metric = config.get('test_evaluator')
    if not isinstance(metric, dict) or metric.get('type') != 'mmseg_aml.GRESMetric':
        metric = dict(type='mmseg_aml.RISMetric')
    config.test_evaluator = {**metric, 'protocols': list(protocols)}
    if any(protocol.needs_segmentation for protocol in get_protocols(list(protocols))):
        pipeline = config.test_dataloader.dataset.pipeline
        pipeline[_step(pipeline, 'PackRISInputs')]['with_segmentation'] = True


def with_corruption(dataloader: dict, corruption: dict) -> dict:
    """A copy of a dataloader's config with a corruption right after LoadRefImage.

    Raises:
        ValueError: If the pipeline has no LoadRefImage.
    """
    dataloader = copy.deepcopy(dataloader)
    pipeline = dataloader['dataset']['pipeline']
    pipeline.insert(_step(pipeline, 'LoadRefImage') + 1, corruption)
    return dataloader
