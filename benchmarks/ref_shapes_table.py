"""All methods on RefShapes with equal budgets: the table of docs/comparison.md.

    python benchmarks/ref_shapes_table.py --jobs 2
    python benchmarks/ref_shapes_table.py --cells ReLA DETRIS  # other hosts and towers
    python benchmarks/ref_shapes_table.py --cells VIPA --language ko  # or zh

Every cell is a config of this package, trained and tested by ``tools/train.py`` and
``tools/test.py`` with each seed on the same scenes, for the same number of samples. The
last checkpoint is tested, so nothing is chosen by validation. An interrupted table goes on
where it stopped. Scores are of the protocol ``original``: the mean over the seeds, and the
sample standard deviation. In another language the scenes speak it, and the words come from a
tokenizer that is trained on the training sentences first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

from mmseg_aml.datasets.ref_shapes.languages import OTHERS

ROOT = Path(__file__).resolve().parents[1]
SCENES = (
    '--size 64 --max-shapes 3 --scale 1.5 --kinds 0.25 0.65 0.1 --no-synonyms '
    '--train 800 --val 200 --testA 200 --testB 200'
)
SPLITS = ('val', 'testA', 'testB')
METRICS = ('mIoU', 'oIoU')
EPOCHS = 8
CELLS = {  # random masking hides as many blocks as AML does, anywhere
    'plain head': 'mmseg_heads/segformer_r18-mini',
    'plain head, random masking': 'aml/aml-random_segformer_r18-mini',
    'plain head, MaskRIS': 'maskris/maskris_segformer_r18-mini',
    'plain head, AML': 'aml/aml_segformer_r18-mini',
    'VIPA': 'vipa/vipa_r18-mini',
    'VIPA, random masking': 'aml/aml-random_vipa_r18-mini',
    'VIPA, MaskRIS': 'maskris/maskris_vipa_r18-mini',
    'VIPA, AML': 'aml/aml_vipa_r18-mini',
    'VIPA, language expression': 'vipa/ablations/vipa-language_r18-mini',
}
HOSTS = {  # other networks, trained plainly
    'ReLA': 'rela/rela_r18-mini',
    'DETRIS': 'detris/detris_vit-mini',
    'VIPA, ConvNeXt V2': 'towers/vipa_convnextv2-mini',
}
Scores = dict[str, dict[str, float]]  # split -> metric -> percent


def tool(name: str, *arguments: object, data: Path, log: Path) -> None:
    """Runs a tool of this package on one CPU thread; its output goes to ``log``."""
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'REF_SHAPES_ROOT': str(data)}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as stream:
        finished = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    if finished.returncode:
        raise RuntimeError(f'tools/{name} ended with exit code {finished.returncode}: see {log}')


def write_scenes(language: str, data: Path, log: Path) -> None:
    """Scenes under ``data``, and the words of another language than English beside them."""
    options = [*SCENES.split(), '--language', language]
    tool('dataset_converters/ref_shapes.py', data, *options, data=data, log=log)
    if language != 'en':
        arguments = [data, 'refshapes', words_of(data)]
        tool('dataset_converters/train_tokenizer.py', *arguments, data=data, log=log)


def words_of(data: Path) -> Path:
    """Folder of the trained tokenizer."""
    return data / 'words'


def run_cell(name: str, seed: int, data: Path, out: Path) -> Scores:
    """Trains and tests one cell with one seed, unless ``out`` has the scores already."""
    config = ROOT / f'configs/{(CELLS | HOSTS)[name]}_1xb8-8e_ref-shapes-64x64.py'
    folder = out / f'{config.stem}_seed{seed}'
    # The tests below validate: once, at the end.
    options = [f'randomness.seed={seed}', f'train_cfg.val_interval={EPOCHS + 1}']
    words = []
    if words_of(data).is_dir():
        words = ['--cfg-options', f'model.text_encoder.tokenizer={words_of(data)}']
        options += words[1:]
    checkpoint = folder / f'epoch_{EPOCHS}.pth'
    log = folder / 'output.txt'
    if not checkpoint.is_file():
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
                '--work-dir', folder / 'test', *words, data=data, log=log,
            )  # fmt: skip
        metrics = json.loads(found.read_text())
        scores[split] = {metric: metrics[f'ris/original/{metric}'] for metric in METRICS}
    print(f'{name}, seed {seed}: {scores}', flush=True)
    return scores


def row(seeds: dict[str, Scores]) -> list[str]:
    """``mean ± deviation`` of every split and metric."""
    cells = []
    for split, metric in product(SPLITS, METRICS):
        values = [scores[split][metric] for scores in seeds.values()]
        spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
        cells.append(f'{statistics.mean(values):.1f}{spread}')
    return cells


def markdown(results: dict[str, dict[str, Scores]]) -> str:
    """The table as Markdown."""
    head = ['', *(f'{split} {metric}' for split, metric in product(SPLITS, METRICS))]
    lines = [head, ['---'] * len(head), *([name, *row(seeds)] for name, seeds in results.items())]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def main() -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cells', nargs='+', default=list(CELLS), choices=CELLS | HOSTS)
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=1, help='trainings that run side by side')
    parser.add_argument('--language', default='en', choices=('en', *OTHERS))
    parser.add_argument('--data', type=Path, default=ROOT / 'data/ref_shapes_table')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/ref_shapes_table')
    parser.add_argument('--json', type=Path, help='where to write all scores')
    args = parser.parse_args()
    data, out = (folder.resolve() / args.language for folder in (args.data, args.out))
    if not (data / 'refshapes/refs(unc).p').is_file():
        write_scenes(args.language, data, out / 'data.txt')
    runs = list(product(args.seeds, args.cells))
    results: dict[str, dict[str, Scores]] = {name: {} for name in args.cells}
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(run_cell, name, seed, data, out) for seed, name in runs]
    for (seed, name), future in zip(runs, futures):
        results[name][str(seed)] = future.result()
    if args.json:
        scenes = dict(scenes=SCENES, language=args.language)
        report = dict(**scenes, epochs=EPOCHS, protocol='original', results=results)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + '\n')
    print(markdown(results))


if __name__ == '__main__':
    main()
