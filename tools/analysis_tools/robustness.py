"""Measure a model on corrupted photographs and expressions.

    python tools/analysis_tools/robustness.py caris_swin-b_2xb8-50e_refcoco-448x448 caris.pth \\
        --kinds haze word_drop --severities 1 3 5 --out-dir robustness

Writes the JSON file after each cell and goes on from it when started again; the folder gets
robustness.json (unless --json), robustness.png and examples.jpg. See docs/robustness.md.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from tqdm import tqdm

from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.datasets.transforms.corruptions import SEVERITIES
from mmseg_aml.datasets.transforms.loading import LoadRefImage
from mmseg_aml.evaluation import available_protocols
from mmseg_aml.evaluation.robustness import (
    KINDS,
    MEASURES,
    RobustnessResults,
    corruption,
    draw_examples,
    plot,
)
from mmseg_aml.evaluation.tester import (
    add_test_arguments,
    build_tester,
    load_test_config,
    set_protocols,
    with_corruption,
)
from mmseg_aml.registry import DATASETS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    add_test_arguments(parser)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument(
        '--severities', nargs='+', type=int, choices=SEVERITIES, default=list(SEVERITIES)
    )
    parser.add_argument('--seed', type=int, default=0, help='of the corruptions')
    parser.add_argument('--protocol', choices=available_protocols(), default='original')
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='default: robustness.json in --out-dir'
    )
    parser.add_argument(
        '--out-dir', type=Path, metavar='DIR', help='default: robustness in --work-dir'
    )
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """What the numbers depend on."""
    parts = [config.model, config.test_dataloader.dataset, config.get('test_cfg')]
    digest = hashlib.sha256()
    with open(args.weights, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return dict(
        config=Path(args.config).name,
        config_sha256=hashlib.sha256(repr(parts).encode()).hexdigest(),
        weights=Path(args.weights).name,
        weights_sha256=digest.hexdigest(),
        split=config.test_dataloader.dataset.get('split'),
        protocol=args.protocol,
        seed=args.seed,
    )


def measure(runner: Runner, dataloader: dict, protocol: str) -> dict[str, float]:
    """mIoU and oIoU of the runner's model on one dataloader."""
    loop: Any = runner.test_loop
    loop.dataloader = runner.build_dataloader(dataloader)
    scores = loop.run()
    return {key: scores[f'ris/{protocol}/{key}'] for key in MEASURES}


def measure_missing(args: argparse.Namespace, config: Config, results: RobustnessResults) -> None:
    """Fill the cells that ``results`` lacks, with a progress bar."""
    cells = list(results.missing(args.kinds, args.severities))
    if not cells:
        return
    runner = build_tester(config, args.weights)
    runner.call_hook('before_run')
    runner.load_or_resume()
    for cell in (bar := tqdm(cells, unit='cell', disable=not is_main_process())):
        bar.set_description('clean' if cell is None else f'{cell[0]} {cell[1]}')
        dataloader = config.test_dataloader
        if cell is not None:
            dataloader = with_corruption(dataloader, corruption(*cell, args.seed))
        numbers = measure(runner, dataloader, args.protocol)
        if is_main_process():
            results.add(cell, numbers)
    runner.call_hook('after_run')


def draw(config: Config, results: RobustnessResults, folder: Path, seed: int) -> None:
    """Write robustness.png and examples.jpg."""
    plot(results, folder / 'robustness.png')
    dataset = DATASETS.build({**config.test_dataloader.dataset, 'pipeline': []})
    draw_examples(LoadRefImage().transform(dataset[0]), folder / 'examples.jpg', seed=seed)


def main(argv: list[str] | None = None) -> RobustnessResults:
    """Measure what is missing; print the tables."""
    args = parse_args(argv)
    config = load_test_config(args)
    config.log_level = 'WARNING'  # a table per cell would hide the progress bar
    folder = args.out_dir or Path(config.work_dir) / 'robustness'
    path = args.json or folder / 'robustness.json'
    results = RobustnessResults(path, settings_of(args, config))
    config.test_evaluator = None  # mIoU and oIoU, also where a config measures others
    set_protocols(config, [args.protocol])
    measure_missing(args, config, results)
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        draw(config, results, folder, args.seed)
        print('\n'.join(results.table(name) for name in MEASURES))
        print(f'numbers: {path}\npictures: {folder}')
    return results


if __name__ == '__main__':
    run(main)
