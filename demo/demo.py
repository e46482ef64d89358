"""The main job on RefShapes, end to end: data, training with AML, tests, pictures.

    make demo

Everything runs through the package's own tools, and goes on where an interrupted run
stopped. Results: ``work_dirs/demo/results.json`` (split -> protocol -> metric) and pictures
beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/aml/aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py'
DATA = ROOT / 'data/ref_shapes'
OUT = ROOT / 'work_dirs/demo'
# Easier than the generator's default, so that a few minutes of one CPU core suffice.
SCENES = (
    '--size 64 --max-shapes 3 --scale 1.5 --kinds 0.25 0.65 0.1 --no-synonyms '
    '--train 3200 --val 100 --testA 100 --testB 100 --workers 2'
)
SPLITS = ('val', 'testA', 'testB')
SHUFFLED = 'val-shuffled'  # every sentence is one of another image


def tool(name: str, *arguments: object) -> None:
    """Runs a tool of this package; its output goes to the terminal."""
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    print('\n$ python', *(str(word).replace(f'{ROOT}/', '') for word in command[1:]), flush=True)
    finished = subprocess.run(command, cwd=ROOT)
    if finished.returncode:
        sys.exit(f'tools/{name} ended with exit code {finished.returncode}: see its output above')


def best_checkpoint() -> Path:
    """The best checkpoint of the training run, by val mIoU."""
    found = sorted((OUT / 'train').glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f'no best_*.pth in {OUT / "train"}: training wrote none; see the log there')
    return found[-1]


def by_protocol(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """``ris/original/mIoU`` -> {'original': {'mIoU': ...}}."""
    table: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        if key.count('/') == 2:
            _, protocol, metric = key.split('/')
            table.setdefault(protocol, {})[metric] = value
    return table


def test(checkpoint: Path, split: str, *options: object) -> dict[str, dict[str, float]]:
    """Metrics of a split; with pictures of a few of its samples."""
    metrics = OUT / f'{split}.json'
    tool(
        'test.py', CONFIG, checkpoint, '--split', split.split('-')[0], '--json', metrics,
        '--work-dir', OUT / 'test', '--show-dir', OUT / 'pictures' / split, *options,
    )  # fmt: skip
    return by_protocol(json.loads(metrics.read_text()))


def draw_one_image(checkpoint: Path) -> Path:
    """What the inferencer sees in one picture, for sentences that are not in the data."""
    import numpy as np
    from PIL import Image

    from mmseg_aml.apis import RISInferencer

    image = sorted((DATA / 'images').glob('*_val_*'))[0]
    found = RISInferencer(str(CONFIG), checkpoint)(image, ['leftmost shape', 'rightmost shape'])
    width = max(prediction.picture.shape[1] for prediction in found)
    rows = [
        np.pad(p.picture, ((0, 0), (0, width - p.picture.shape[1]), (0, 0)), constant_values=255)
        for p in found
    ]
    path = OUT / 'pictures/one_image_two_sentences.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path)
    return path


def print_table(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """One line per split, for every protocol."""
    metrics = ('mIoU', 'oIoU', 'Pr@0.5', 'Pr@0.7', 'Pr@0.9')
    for protocol in results['val']:
        print(f'\nRefShapes, protocol "{protocol}", in percent')
        print(f'{"split":14}' + ''.join(f'{metric:>9}' for metric in metrics))
        for split, table in results.items():
            values = ''.join(f'{table[protocol][metric]:9.2f}' for metric in metrics)
            print(f'{split:14}{values}')
    print('testB: colour-shape pairs that training has not seen. val-shuffled: sentences of')
    print('other images, so what is left there is what the model gets without reading.')


def main() -> None:
    started = time.monotonic()
    if not (DATA / 'refshapes/refs(unc).p').is_file():
        tool('dataset_converters/ref_shapes.py', DATA, *SCENES.split())
    tool('train.py', CONFIG, '--work-dir', OUT / 'train', '--resume')
    checkpoint = best_checkpoint()
    results = {split: test(checkpoint, split) for split in SPLITS}
    shuffled = 'test_dataloader.dataset.type=mmseg_aml.ShuffledExpressions'
    results[SHUFFLED] = test(checkpoint, SHUFFLED, '--cfg-options', shuffled)
    (OUT / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    picture = draw_one_image(checkpoint)
    print_table(results)
    print(f'\nresults  {OUT / "results.json"}\npictures {OUT / "pictures"}, {picture}')
    print(f'checkpoint {checkpoint}\n{(time.monotonic() - started) / 60:.1f} minutes')


if __name__ == '__main__':
    main()
