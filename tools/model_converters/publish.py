"""Publish a trained model: weights, settings, tokenizer and a card in one folder.

    python tools/model_converters/publish.py CONFIG work_dirs/x/best.pth release/my-model \\
        --licence cc-by-nc-4.0 --about 'Trained on RefCOCO (UNC), train split.' \\
        --results results.json

Optimizer states and parts that only training uses are left out, adapters are merged, and the
checksum stands in config.json. ``RISInferencer.from_pretrained`` reads the folder; with
``--push user/repository`` it also becomes a Hugging Face repository.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mmseg_aml  # noqa: F401  the compat layer comes before mmseg's own modules
from mmseg_aml.apis import RISInferencer, model_card, push
from mmseg_aml.command_line import ToolParser, read_config, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line; see the top of this file."""
    parser = ToolParser(__doc__)
    parser.add_config()
    parser.add_weights()
    parser.add_argument('folder', type=Path, help='folder to write')
    parser.add_argument('--licence', required=True, help='of the weights, e.g. apache-2.0')
    parser.add_argument('--about', required=True, help='training data, and what it cannot do')
    parser.add_argument('--results', type=Path, help='JSON: split -> protocol -> metric -> value')
    parser.add_argument('--half', action='store_true', help='weights in float16')
    parser.add_argument('--push', metavar='USER/REPOSITORY', help='upload it, too')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    numbers = json.loads(args.results.read_text(encoding='utf-8')) if args.results else None
    card = model_card(
        args.folder.name, description=args.about, licence=args.licence, numbers=numbers
    )
    model = RISInferencer(read_config(args), args.weights, device='cpu')
    folder = model.save_pretrained(args.folder, card=card, half=args.half)
    size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    print(f'wrote {folder} ({size / 1e6:.1f} MB): RISInferencer.from_pretrained({str(folder)!r})')
    if args.push:
        print(push(folder, args.push))


if __name__ == '__main__':
    run(main)
