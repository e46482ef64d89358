"""Masks for a folder or a table of images and sentences.

    python tools/predict.py photos/ CONFIG WEIGHTS --expressions "dog" "ball" --out-dir out
    python tools/predict.py pairs.csv CONFIG WEIGHTS --out-dir out

Writes ``out/masks/*.png`` (255 = inside), ``out/predictions.json`` (expression, score, box and COCO
RLE of every mask) and contact sheets ``out/sheet_*.jpg``. The same command goes on where it
was stopped. Exit code 1: some images could not be read; they are listed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmseg_aml.apis import Request, RISInferencer, RISPrediction
from mmseg_aml.apis.images import read_image
from mmseg_aml.apis.tables import InputError, read_requests
from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.engine.atomic_files import write_atomically
from mmseg_aml.visualization.panels import PRED_COLOR, overlay_mask
from mmseg_aml.visualization.sheets import Cell, contact_sheet, thumbnail

PER_SHEET = 24


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument(
        'input', type=Path, help='folder of images, or a .csv or .tsv with image,expression'
    )
    parser.add_argument('config', help='config file, its name, or the folder of a published model')
    parser.add_weights(nargs='?')
    parser.add_argument('--out-dir', type=Path, required=True, help='folder to write to')
    parser.add_argument('--expressions', nargs='+', help='sentences about every image of a folder')
    parser.add_argument('--batch-size', type=int, default=4, help='images at once (default: 4)')
    parser.add_argument('--device', help='such as cuda:0; default: the best one there is')
    parser.add_argument('--precision', default='float32', help='float32, bfloat16 or float16')
    parser.add_argument(
        '--sheets', type=int, default=10, help='contact sheets of 24 at most (default: 10)'
    )
    parser.add_argument('--overwrite', action='store_true', help='drop what the folder holds')
    return parser.parse_args(arguments)


class Results:
    """The output folder: one line per finished expression, so that a stopped run goes on."""

    def __init__(self, folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
        self.folder = folder
        self.lines = folder / 'predictions.jsonl'
        if overwrite:
            shutil.rmtree(folder / 'masks', ignore_errors=True)
            for path in (self.lines, *folder.glob('sheet_*.jpg'), folder / 'predictions.json'):
                path.unlink(missing_ok=True)
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        if self.lines.is_file():
            self._read(settings)
        else:
            (folder / 'masks').mkdir(parents=True, exist_ok=True)
            self._append(settings)
        self.settings = settings

    def _read(self, settings: dict[str, Any]) -> None:
        first, *lines = self.lines.read_text(encoding='utf-8').splitlines(keepends=True) or ['']
        if json.loads(first or '{}') != settings:
            raise InputError(
                f'{self.folder} holds predictions of other settings ({first.strip()}): name '
                'another --out-dir, or drop them with --overwrite'
            )
        whole = [line for line in lines if line.endswith('\n')]
        for line in whole:
            record = json.loads(line)
            self.done[record['image'], record['expression']] = record
        # Without a line that a kill cut off.
        write_atomically(self.lines, ''.join([first, *whole]).encode())

    def _append(self, record: dict[str, Any]) -> None:
        with self.lines.open('a', encoding='utf-8') as file:
            file.write(json.dumps(record, ensure_ascii=False) + '\n')

    def missing(self, request: Request) -> Request:
        """What of it is not done yet."""
        texts = [text for text in request.expressions if (request.image, text) not in self.done]
        return Request(request.image, texts)

    def add(self, image: str, found: RISPrediction) -> None:
        """Writes a mask and its line."""
        key = hashlib.sha256(f'{image}\0{found.expression}'.encode()).hexdigest()[:10]
        name = f'masks/{Path(image).stem[:80]}-{key}.png'
        found.save(self.folder / name)
        record = dict(image=image, mask=name, **found.record())
        self._append(record)
        self.done[image, found.expression] = record

    def finish(self, requests: Sequence[Request], failed: list[dict[str, str]]) -> list[dict]:
        """Writes ``predictions.json``, in the order of the input; returns its predictions."""
        pairs = dict.fromkeys((r.image, text) for r in requests for text in r.expressions)
        records = [self.done[pair] for pair in pairs if pair in self.done]
        content = dict(self.settings, predictions=records, failed=failed)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(self.folder / 'predictions.json', f'{text}\n'.encode())
        return records


def predict(
    segment: RISInferencer, requests: Sequence[Request], results: Results, batch_size: int
) -> list[dict[str, str]]:
    """Runs what is not done; returns the images that could not be read, with the reason."""
    failed: list[dict[str, str]] = []
    left = [part for part in map(results.missing, requests) if part.expressions]
    bar = tqdm(total=len(requests), initial=len(requests) - len(left), unit='image', desc='masks')
    with bar:
        for start in range(0, len(left), batch_size):
            batch = left[start : start + batch_size]
            read = list(_readable(batch, failed))
            pictures = [Request(pixels, part.expressions) for pixels, part in read]
            found = segment.stream(pictures, batch_size=batch_size)
            for (_, part), (predictions, _) in zip(read, found):
                for prediction in predictions:
                    results.add(part.image, prediction)
            bar.update(len(batch))
    return failed


def _readable(
    batch: Sequence[Request], failed: list[dict[str, str]]
) -> Iterator[tuple[np.ndarray, Request]]:
    for part in batch:
        try:
            yield read_image(part.image), part
        except OSError as error:
            failed.append(dict(image=part.image, error=str(error)))


def draw_sheets(folder: Path, records: Sequence[dict[str, Any]], most: int) -> int:
    """Contact sheets of the first records; returns how many pictures are on them."""
    shown = records[: most * PER_SHEET]
    for old in folder.glob('sheet_*.jpg'):
        old.unlink()
    with tqdm(total=len(shown), unit='picture', desc='sheets') as bar:
        for start in range(0, len(shown), PER_SHEET):
            cells = []
            for record in shown[start : start + PER_SHEET]:
                mask = np.asarray(Image.open(folder / record['mask'])) > 0
                picture = overlay_mask(read_image(record['image']), mask, PRED_COLOR)
                caption = f'{record["expression"]} · {record["score"]:.2f}'
                cells.append(Cell(thumbnail(picture), caption))
                bar.update()
            name = f'sheet_{start // PER_SHEET + 1:03d}.jpg'
            Image.fromarray(contact_sheet(cells)).save(folder / name, quality=90)
    return len(shown)


def load(args: argparse.Namespace) -> RISInferencer:
    """The model that the arguments name."""
    options = dict(device=args.device, precision=args.precision)
    if args.weights is not None:
        return RISInferencer(args.config, args.weights, **options)
    if Path(args.config).expanduser().is_dir():
        return RISInferencer.from_pretrained(args.config, **options)
    raise InputError(
        f'{args.config} needs weights after it (only the folder of a published model does not)'
    )


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    requests = read_requests(args.input, args.expressions)
    segment = load(args)
    settings = dict(config=args.config, checkpoint=args.weights, precision=args.precision)
    results = Results(args.out_dir, settings, args.overwrite)
    failed = predict(segment, requests, results, args.batch_size)
    records = results.finish(requests, failed)
    shown = draw_sheets(args.out_dir, records, args.sheets)
    print(f'{len(records)} masks in {args.out_dir}/masks, all of them in predictions.json')
    print(f'contact sheets show {shown} of {len(records)} (--sheets N for more)')
    for one in failed:
        print(f'not read: {one["error"]}', file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    run(main)
