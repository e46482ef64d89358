"""The main job on RefShapes, end to end in a few minutes: data, training with AML, tests, a look.

    make demo

Everything runs through the package's own tools. What they print in full is kept in
``work_dirs/demo/*.log``. Results: ``work_dirs/demo/results.json`` (split -> protocol -> metric)
and the contact sheet ``work_dirs/demo/look.png``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sheet import Cell, contact_sheet
from terminal import follow

ROOT = Path(__file__).resolve().parents[1]
NAME = 'aml_vipa_r18-mini_2xb4-4e_ref-shapes-96x96'
CONFIG = ROOT / f'configs/aml/{NAME}.py'
DATA = ROOT / 'data/ref_shapes_96'
OUT = ROOT / 'work_dirs/demo'
# Easier than the generator's default, so that minutes on two CPU cores suffice.
SCENES = (
    '--size 96 --max-shapes 3 --scale 1.5 --kinds 0.25 0.65 0.1 --no-synonyms '
    '--train 1600 --val 100 --testA 1 --testB 100 --workers 2'
)
SPLITS = {
    'val': ('val', ()),
    'testB': ('testB', ()),
    'val, other sentences': (
        'val',
        ('--cfg-options', 'test_dataloader.dataset.type=mmseg_aml.ShuffledExpressions'),
    ),
}


def start(log: str, *command: object) -> tuple[subprocess.Popen[str], Path]:
    """Starts a tool in the background, its output in one log file."""
    path = OUT / f'{log}.log'
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, REF_SHAPES_ROOT=str(DATA), PYTHON=sys.executable)
    with open(path, 'w') as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return process, path


def run(log: str, *command: object) -> None:
    """Runs a tool, showing its progress."""
    shown = ' '.join(str(part).replace(f'{ROOT}/', '') for part in command)
    print(f'\n$ {shown}'.replace(sys.executable, 'python'), flush=True)
    follow(*start(log, *command))


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


def test_all(checkpoint: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of every split; they are independent, so two run at a time."""
    waiting = []
    for name, (split, options) in SPLITS.items():
        log = 'test_' + name.replace(', ', '-').replace(' ', '-')
        command = (sys.executable, 'tools/test.py', CONFIG, checkpoint, '--split', split)
        files = ('--json', OUT / f'{log}.json', '--work-dir', OUT / 'test' / log)
        waiting.append((name, *start(log, *command, *files, *options)))
        if len(waiting) % 2 == 0:
            follow(*waiting[-2][1:], quiet=True)
    for _, process, log_file in waiting:
        follow(process, log_file, quiet=True)
    return {
        name: by_protocol(json.loads(path.with_suffix('.json').read_text()))
        for name, _, path in waiting
    }


def masking() -> dict[str, float]:
    """What AML did in the steps that its hook looked at."""
    logs = sorted((OUT / 'train').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    steps = {line['step']: line for line in lines if 'aml/masked' in line}
    shares = [line['aml/masked'] for line in steps.values()]
    if not shares:
        sys.exit(f'no aml/masked in {logs}: AML did not run')
    return dict(
        looked_at=len(shares),
        acted=100 * sum(share > 0 for share in shares) / len(shares),
        masked=100 * sum(shares) / len(shares),
    )


def look(checkpoint: Path) -> Path:
    """The contact sheet: sentences about validation scenes, and what AML masked in training."""
    from mmseg_aml.apis import RISInferencer
    from mmseg_aml.datasets import refcoco
    from mmseg_aml.datasets.refer import decode_masks

    segment = RISInferencer(str(CONFIG), checkpoint)
    scenes = refcoco.RefCOCODataset(str(DATA), 'refshapes', 'val', test_mode=True)
    cells = []
    for item in (scenes.get_data_info(index) for index in range(0, 24, 2)):
        truth, *_ = item['expressions']
        found = segment(item['img_path'], truth['expression'])
        mask = decode_masks(truth['segmentation'], item['height'], item['width'])
        cells.append(Cell(item['img_path'], truth['expression'], found.mask, mask.astype(bool)))
    masked = sorted((OUT / 'train').glob('*/vis_data/vis_image/aml*.png'))
    return contact_sheet(cells, masked[-2:], OUT / 'look.png')


def print_results(results: dict[str, dict[str, dict[str, float]]]) -> None:
    """One line per split, for every protocol."""
    metrics = ('mIoU', 'oIoU', 'Pr@0.5', 'Pr@0.7', 'Pr@0.9')
    for protocol in results['val']:
        print(f'\nRefShapes, protocol "{protocol}", in percent')
        print(f'{"split":22}' + ''.join(f'{metric:>9}' for metric in metrics))
        for split, table in results.items():
            values = ''.join(f'{table[protocol][metric]:9.2f}' for metric in metrics)
            print(f'{split:22}{values}')
    print('testB: colour-shape pairs that training has not seen. "other sentences": those of')
    print('another picture, so what is left there is what the network gets without reading.')


LAST_SCREEN = """
Trained  VIPA's decoder on a small ResNet and a one-layer BERT, from scratch, with AML
         ({config})
AML      masked blocks of the picture in {acted:.0f} % of {looked_at} steps that were looked at,
         {masked:.1f} % of the picture on average (docs/aml.md says what that is worth)
Pictures {sheet}
Numbers  {out}/results.json
Weights  {checkpoint}
Logs     {out}/*.log, {out}/train
Took     {minutes:.1f} minutes

Next, a picture and a sentence of yours (shapes: it has seen nothing else):
  .venv/bin/python demo/image_demo.py data/ref_shapes_96/images/PICTURE.png \\
      "leftmost circle" {name} {checkpoint}
The same without AML, to compare:
  REF_SHAPES_ROOT=data/ref_shapes_96 bash tools/dist_train.sh configs/vipa/{plain}.py 2
Your own photographs: docs/data.md
"""


def main() -> None:
    started = time.monotonic()
    if not (DATA / 'refshapes/refs(unc).p').is_file():
        tool = ROOT / 'tools/dataset_converters/ref_shapes.py'
        run('scenes', sys.executable, tool, DATA, *SCENES.split())
    work = ('--work-dir', OUT / 'train', '--resume')
    run('train', 'bash', 'tools/dist_train.sh', CONFIG, 2, *work)
    checkpoint = best_checkpoint()
    print('\ntesting ...', flush=True)
    results = test_all(checkpoint)
    (OUT / 'results.json').write_text(json.dumps(results, indent=2) + '\n')
    sheet = look(checkpoint)
    print_results(results)
    inside = {'sheet': sheet, 'checkpoint': checkpoint, 'out': OUT}
    print(
        LAST_SCREEN.format(
            config=CONFIG.relative_to(ROOT),
            name=NAME,
            plain=NAME.replace('aml_', ''),
            minutes=(time.monotonic() - started) / 60,
            **masking(),
            **{key: path.relative_to(ROOT) for key, path in inside.items()},
        )
    )


if __name__ == '__main__':
    main()
