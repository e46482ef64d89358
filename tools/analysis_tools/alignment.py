"""Does an alignment map see the target? AML's diagnostics over a data set.

    python tools/analysis_tools/alignment.py aml_caris_swin-b_2xb8-50e_refcoco-448x448 caris.pth \\
        --estimator pmme linear:release --num 64 --out-dir alignment --json alignment.json

Without WEIGHTS the network is as training starts it: random, or with the pretrained parts that
the config names. Estimators: the paper's PMME at the documented temperature
(pmme), as written (pmme-literal) and with one shared projection (pmme-shared), the release's
untrained Linear (linear), uniform noise, the ground truth itself (oracle), and `config`: that of
the config's own loss_wrapper, with what it has learned if WEIGHTS is a training checkpoint.
ESTIMATOR:FILTER names the filter too.

The table gives mean ± spread over expressions of the shares of weak and of masked blocks and of
the masked target, the AUC of the score against the target (0.5 = no signal), the AUC against the
targets of the image's other expressions (does it see *which* object?), and the soft-max entropy;
`over seeds` is the spread between random projections. DIR gets a page of pictures per estimator.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401  its version check and compat layer come first

# isort: split
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from PIL import Image
from tqdm import tqdm

from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.datasets.transforms.images import read_rgb
from mmseg_aml.engine.checkpoints import (
    check_fits,
    read_checkpoint,
    weights_of,
    without_module,
)
from mmseg_aml.evaluation.tester import load_test_config
from mmseg_aml.models.segmentors.expressions import image_index
from mmseg_aml.registry import DATASETS, MODELS
from mmseg_aml.strategies.base import View
from mmseg_aml.strategies.study.alignment import (
    ESTIMATORS,
    FILTERS,
    Sample,
    Setting,
    records_of,
    samples_of,
    setting,
    summarise,
    table,
)
from mmseg_aml.visualization.visualizer import RISVisualizer

DEFAULT = ('pmme', 'pmme-literal:literal', 'pmme-shared', 'linear:release', 'noise')
STRIP_WIDTH, COLUMNS = 420, 3  # of a page, in pixels and strips


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_weights(nargs='?', help='checkpoint; default: as training starts')
    parser.add_argument('--split', help="another split of the config's test data set")
    parser.add_argument(
        '--estimator',
        nargs='+',
        default=list(DEFAULT),
        metavar='ESTIMATOR[:FILTER]',
        help=f'of {", ".join(ESTIMATORS)}, config; filters: {", ".join(FILTERS)}, config '
        f'(default: paper); all together by default: {" ".join(DEFAULT)}',
    )
    parser.add_argument('--level', type=int, default=-1, help='level of the map (default: last)')
    parser.add_argument('--block-size', type=int, help="in pixels; default: the config's, or 32")
    parser.add_argument('--seeds', type=int, default=5, help='random projections per estimator')
    parser.add_argument('--num', type=int, default=64, help='images, evenly spread (0 = all)')
    parser.add_argument('--pictures', type=int, default=6, help='expressions per page')
    parser.add_argument('--image-size', type=int, help="side; default: the config's own size")
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--out-dir', type=Path, metavar='DIR', help='of the pages; default: no pictures'
    )
    parser.add_json('the statistics')
    parser.set_defaults(launcher='none', local_rank=0, work_dir=None)
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace, config: Config) -> list[Setting]:
    """One row per ``--estimator``.

    Raises:
        ValueError: On an unknown name, or if the config has no part that ``config`` asks for.
    """
    wrapper = config.model.get('loss_wrapper') or {}

    def part(kind: str, name: str, known: dict[str, Any]) -> Any:
        if name in known:
            return name
        if name != 'config':
            raise ValueError(f'unknown {kind} {name!r}: choose from {[*known, "config"]}')
        if wrapper.get('type') != 'mmseg_aml.AMLLossWrapper':
            raise ValueError(
                f'{kind} config: {args.config} has no model.loss_wrapper of type '
                'mmseg_aml.AMLLossWrapper'
            )
        default = dict(estimator=ESTIMATORS['pmme'], filter=FILTERS['paper'])[kind]
        return dict(wrapper.get(kind) or default)

    own_size = (wrapper.get('filter') or {}).get('block_size', 32)
    block_size = args.block_size or own_size
    rows = []
    for name in args.estimator:
        estimator, _, block_filter = name.partition(':')
        parts = (
            part('estimator', estimator, ESTIMATORS),
            part('filter', block_filter or 'paper', FILTERS),
        )
        rows.append(setting(*parts, seeds=args.seeds, level=args.level, block_size=block_size))
    return rows


def network(config: Config, weights: str | None, device: str) -> Any:
    """The config's model in eval mode, with the checkpoint's weights or as training starts it."""
    torch.manual_seed(0)
    config.model.loss_wrapper = None
    model: Any = revert_sync_batchnorm(MODELS.build(config.model))
    if weights is None:
        MMLogger.get_current_instance().setLevel('WARNING')  # it tells of every parameter
        model.init_weights()
    else:
        checkpoint = read_checkpoint(weights)
        check_fits(model, checkpoint, weights)
        model.load_state_dict(weights_of(checkpoint))
    return model.to(device).eval()


def load_learned(settings: list[Setting], weights: str | None) -> None:
    """Gives estimators that learn what they had learned in the training of ``weights``.

    Raises:
        ValueError: There is no such training, or it had no such estimator.
    """
    saved = without_module(read_checkpoint(weights)['state_dict']) if weights else {}
    start = 'loss_wrapper.masker.estimator.'
    state = {key.removeprefix(start): v for key, v in saved.items() if key.startswith(start)}
    for masker in (masker for one in settings for masker in one.maskers):
        estimator: Any = masker.estimator
        if not estimator.state_dict():
            continue
        if state.keys() != estimator.state_dict().keys():
            raise ValueError(
                f'{type(estimator).__name__} learns: give a checkpoint of a training with it, '
                f'not {weights or "none"} (published weights leave it out)'
            )
        estimator.load_state_dict(state)


def batches(config: Config, num: int, size: int | None) -> Iterator[Any]:
    """Raw batches of ``num`` images, spread evenly over the split; with a progress bar."""
    loader = config.test_dataloader
    for step in loader.dataset.pipeline:
        if size and 'size' in step:
            step['size'] = (size, size)
    dataset = DATASETS.build(loader.dataset)
    count = min(num or len(dataset), len(dataset))
    order = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    loader = {**loader, 'dataset': torch.utils.data.Subset(dataset, order), 'num_workers': 0}
    loader['persistent_workers'] = False
    yield from tqdm(Runner.build_dataloader(loader, seed=0), unit='batch')


def page_of(strips: list[Image.Image]) -> Image.Image:
    """Pictures scaled to one width, in rows."""
    scaled = [
        strip.resize((STRIP_WIDTH, round(strip.height * STRIP_WIDTH / strip.width)))
        for strip in strips
    ]
    rows = [scaled[i : i + COLUMNS] for i in range(0, len(scaled), COLUMNS)]
    heights = [max(strip.height for strip in row) for row in rows]
    page = Image.new('RGB', (STRIP_WIDTH * len(rows[0]), sum(heights)), 'white')
    for i, row in enumerate(rows):
        for j, strip in enumerate(row):
            page.paste(strip, (j * STRIP_WIDTH, sum(heights[:i])))
    return page


class Pages:
    """The first expressions of a study, one page per setting."""

    def __init__(self, folder: Path | None, count: int) -> None:
        self.folder, self.left = folder, count if folder else 0
        self.strips: dict[str, list[Image.Image]] = {}
        self.visualizer = RISVisualizer()

    def add(self, records: dict[Any, Any], samples: list[Any]) -> None:
        """Draws the next expressions of a batch: one of every image, first seed."""
        seen: set[int] = set()
        for row, sample in enumerate(samples):
            if not self.left:
                return
            if sample.metainfo['image_index'] in seen:
                continue
            seen.add(sample.metainfo['image_index'])
            self.left -= 1
            photograph = read_rgb(sample.metainfo['img_path'], sample.metainfo['ori_shape'])
            for (name, seed), record in records.items():
                if seed == 0:
                    picture = self.visualizer.draw(
                        photograph,
                        sample.cpu(),
                        alignment=record.scores[row].clamp(0, 1),
                        masked_blocks=record.masked[row],
                    )
                    self.strips.setdefault(name, []).append(Image.fromarray(picture))

    def save(self) -> list[Path]:
        """Writes ``<estimator>_<filter>.jpg``."""
        paths = []
        for name, strips in self.strips.items():
            assert self.folder is not None
            self.folder.mkdir(parents=True, exist_ok=True)
            page = page_of(strips)
            paths.append(self.folder / f'{name.replace(" + ", "_")}.jpg')
            page.save(paths[-1], quality=80)
        return paths


@torch.no_grad()
def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Prints the tables and returns the statistics."""
    args = parse_args(argv)
    config = load_test_config(args)
    init_default_scope(config.get('default_scope', 'mmseg'))
    settings = settings_of(args, config)
    model = network(config, args.weights, args.device)
    load_learned(settings, args.weights)
    for masker in (masker for one in settings for masker in one.maskers):
        masker.to(args.device)
    pages = Pages(args.out_dir, args.pictures)
    found: list[Sample] = []
    for seed, data in enumerate(batches(config, args.num, args.image_size)):
        data = model.data_preprocessor(data, False)
        inputs, samples = data['inputs'], data['data_samples']
        for sample in samples:
            sample.set_metainfo({'pad_shape': tuple(inputs.shape[-2:])})
        view = View(model, inputs, samples, learns=False)
        records = records_of(settings, view, seed)
        found += samples_of(records, view, image_index(samples))
        pages.add(records, samples)
    report = summarise(found)
    print(table(report))
    for path in pages.save():
        print(f'pictures: {path}')
    write_json(args.json, report)
    return report


if __name__ == '__main__':
    run(main)
