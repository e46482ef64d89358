"""Referring expressions for any COCO-format instance file, in REFER layout.

    python tools/dataset_converters/coco_to_refer.py instances_val2017.json \\
        --images val2017 --to data/own --dataset coco

gives data/own/coco/{refs(own).json, instances.json} and data/own/images (a link), which
mmseg_aml.RefCOCODataset(data_root='data/own', dataset='coco') reads. Several files of one set:
name each, and --images once for each, in the same order.

Every sentence is proved from the annotations to mean one object of its photograph, with a margin:
by the category (synonyms and hypernyms too), place, order, size, and relation to other objects.
Crowd regions, things that may be overlooked or that the border cuts off, look-alike categories and
near ties are taken into account. The proof is as good as the annotations: objects that nobody
labelled are not known to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.datasets.coco_to_refer.convert import Source, convert_coco
from mmseg_aml.datasets.coco_to_refer.language import KIND_WEIGHTS
from mmseg_aml.datasets.refer_files import read_json
from mmseg_aml.datasets.splits import read_splits, shares_of


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('instances', nargs='+', type=Path, help='COCO instance files (JSON)')
    parser.add_argument(
        '--images', nargs='+', type=Path, required=True, metavar='DIR', help='one per file'
    )
    parser.add_argument('--to', type=Path, required=True, metavar='DATA_ROOT', help='data root')
    parser.renamed('--out', '--to')
    parser.add_argument('--dataset', required=True, help='sub-folder to write')
    parser.add_argument(
        '--splits',
        type=Path,
        metavar='FILE',
        help='JSON: {"train": [image ids], "val": [...], ...}, or that under the key "splits"; '
        'images in no split are left out',
    )
    parser.add_argument(
        '--shares',
        nargs='+',
        default=['train=0.8', 'val=0.1', 'test=0.1'],
        metavar='SPLIT=SHARE',
        help='without --splits: shares of the images, drawn at random (default: %(default)s)',
    )
    parser.add_argument(
        '--words',
        type=Path,
        metavar='FILE',
        help='JSON: {"category": {"synonyms": [...], "hypernyms": [...], "lookalikes": [other '
        'categories that the same words may mean]}}, added to the words of the 80 COCO categories',
    )
    parser.add_argument('--sentences', type=int, default=3, help='at most, a ref (default 3)')
    parser.add_argument(
        '--min-area', type=float, default=0.01, help='of a target, share of the picture (0.01)'
    )
    parser.add_argument(
        '--kinds',
        type=float,
        nargs=len(KIND_WEIGHTS),
        default=list(KIND_WEIGHTS.values()),
        metavar=tuple(kind.upper() for kind in KIND_WEIGHTS),
        help='shares of the kinds of sentences aimed at (default %(default)s)',
    )
    parser.add_argument('--seed', type=int, default=0, help='same seed, same files (default 0)')
    args = parser.parse_args(argv)
    if len(args.images) != len(args.instances):
        parser.error(f'{len(args.instances)} file(s) but {len(args.images)} --images')
    return args


def main(argv: list[str] | None = None) -> None:
    """Convert, and say what came of it."""
    args = parse_args(argv)
    statistics = convert_coco(
        [Source(file, folder) for file, folder in zip(args.instances, args.images)],
        args.to,
        args.dataset,
        splits=read_splits(args.splits) if args.splits else None,
        shares=shares_of(args.shares),
        own_words=read_json(args.words) if args.words else None,
        seed=args.seed,
        count=args.sentences,
        min_area=args.min_area,
        kind_weights=dict(zip(KIND_WEIGHTS, args.kinds)),
    )
    print('\n'.join(statistics.lines()))
    print(f'wrote {args.to / args.dataset}; images: {args.to / "images"}')


if __name__ == '__main__':
    run(main)
