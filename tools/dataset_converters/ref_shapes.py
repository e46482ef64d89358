"""Write RefShapes, a seeded synthetic data set for referring segmentation, in REFER layout.

    python tools/dataset_converters/ref_shapes.py data/ref_shapes --train 2000

gives data/ref_shapes/refshapes/{refs(unc).p, instances.json} and data/ref_shapes/images/*.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.datasets.ref_shapes import KIND_WEIGHTS, export_ref_shapes
from mmseg_aml.datasets.ref_shapes.language import LANGUAGES


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument(
        'data_root', type=Path, help='folder to write; it must not exist, or be empty'
    )
    parser.add_argument(
        '--train', type=int, default=2000, metavar='N', help='pictures, default 2000'
    )
    for split, note in (('val', ''), ('testA', ''), ('testB', ' of unseen colour-shape pairs')):
        parser.add_argument(
            f'--{split}', type=int, default=200, metavar='N', help=f'pictures{note}, default 200'
        )
    parser.add_argument(
        '--size',
        type=int,
        nargs='+',
        default=[128],
        metavar='PX',
        help='side, or width and height, in pixels (default 128)',
    )
    parser.add_argument(
        '--max-shapes', type=int, default=10, metavar='N', help='shapes per picture: 3 to N'
    )
    parser.add_argument('--scale', type=float, default=1.0, help='size of the shapes, 0.5 to 1.5')
    parser.add_argument(
        '--kinds',
        type=float,
        nargs=3,
        default=list(KIND_WEIGHTS.values()),
        metavar=('ATTRIBUTE', 'POSITION', 'RELATION'),
        help='shares of the kinds of sentences aimed at (default %(default)s)',
    )
    parser.add_argument(
        '--no-synonyms', action='store_true', help='say the same thing always in the same words'
    )
    parser.add_argument(
        '--language', default='en', choices=LANGUAGES, help='of the sentences (default en)'
    )
    parser.add_argument(
        '--generalised',
        action='store_true',
        help='also grefshapes/: sentences about one shape, several or none',
    )
    parser.add_argument('--seed', type=int, default=0, help='same seed, same bytes (default 0)')
    parser.add_argument('--workers', type=int, default=1, help='processes (default 1)')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier RefShapes')
    args = parser.parse_args(argv)
    if len(args.size) > 2:
        parser.error(f'--size takes a side, or width and height; got {args.size}')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    counts = {split: getattr(args, split) for split in ('train', 'val', 'testA', 'testB')}
    summary = export_ref_shapes(
        args.data_root,
        counts,
        size=(args.size[0], args.size[-1]),
        seed=args.seed,
        most_shapes=args.max_shapes,
        scale=args.scale,
        kind_weights=dict(zip(KIND_WEIGHTS, args.kinds)),
        synonyms=not args.no_synonyms,
        language=args.language,
        generalised=args.generalised,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    for split, numbers in summary.items():
        print(f'{split:>6}: ' + ', '.join(f'{count} {name}' for name, count in numbers.items()))


if __name__ == '__main__':
    run(main)
