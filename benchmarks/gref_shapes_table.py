"""Generalised segmentation on RefShapes with equal budgets: ReLA, and a plain head.

    python benchmarks/gref_shapes_table.py --seeds 0

As ``ref_shapes_table.py``, on sentences about one shape, several or none; the model decides
whether there is a target. Scores in percent, protocol ``original``.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

from ref_shapes_table import EPOCHS, ROOT, SCENES, SPLITS, Scores, tool

METRICS = ('gIoU', 'cIoU', 'N-acc', 'T-acc')
CELLS = {
    'plain head, no-target head': 'mmseg_heads/segformer-nt',
    'ReLA': 'rela/rela',
}


def run_cell(name: str, seed: int, data: Path, out: Path) -> Scores:
    """Trains and tests one cell with one seed, unless ``out`` has the scores already."""
    config = ROOT / f'configs/{CELLS[name]}_r18-mini_1xb8-8e_gref-shapes-64x64.py'
    folder = out / f'{config.stem}_seed{seed}'
    checkpoint, log = folder / f'epoch_{EPOCHS}.pth', folder / 'output.txt'
    if not checkpoint.is_file():
        options = [f'randomness.seed={seed}', f'train_cfg.val_interval={EPOCHS + 1}']
        tool(
            'train.py', config, '--work-dir', folder, '--resume', '--cfg-options', *options,
            data=data, log=log,
        )  # fmt: skip
    scores: Scores = {}
    for split in SPLITS:
        found = folder / f'{split}.json'
        if not found.is_file():
            tool(
                'test.py', config, checkpoint, '--split', split, '--json', found,
                '--work-dir', folder / 'test', data=data, log=log,
            )  # fmt: skip
        metrics = json.loads(found.read_text())
        scores[split] = {metric: metrics[f'gres/original/{metric}'] for metric in METRICS}
    return scores


def main() -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--data', type=Path, default=ROOT / 'data/gref_shapes_table')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/gref_shapes_table')
    parser.add_argument('--json', type=Path, help='where to write all scores')
    args = parser.parse_args()
    data, out = args.data.resolve(), args.out.resolve()
    if not (data / 'grefshapes/grefs(unc).json').is_file():
        options = [*SCENES.split(), '--generalised']
        tool('dataset_converters/ref_shapes.py', data, *options, data=data, log=out / 'data.txt')
    results: dict[str, dict[str, Scores]] = {name: {} for name in CELLS}
    for seed, name in product(args.seeds, CELLS):
        scores = run_cell(name, seed, data, out)
        results[name][str(seed)] = scores
        print(f'{name}, seed {seed}: {scores}', flush=True)
    if args.json:
        report = dict(scenes=f'{SCENES} --generalised', epochs=EPOCHS, results=results)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + '\n')


if __name__ == '__main__':
    main()
