"""An HTML report of a test run: scores by kind of sentence, worst and best, filters.

    python tools/test.py CONFIG WEIGHTS --split testA --out masks.json
    python tools/analysis_tools/browse_results.py masks.json --data-root data/refer \\
        --dataset refcoco --split testA --out report.html

The page is one file that needs no network. Masks of any other project do as well: see
docs/evaluation.md for their form.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mmseg_aml  # noqa: F401
from mmseg_aml.command_line import ToolParser, run
from mmseg_aml.datasets.refer import ReferIndex, default_image_dir
from mmseg_aml.evaluation import RISMetric, available_protocols
from mmseg_aml.evaluation.offline import load_predictions, score_entries
from mmseg_aml.evaluation.report import chosen_rows, kinds_of, pictures, rows_of, write_report


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('predictions', type=Path, help='masks of every sentence, as JSON')
    parser.add_refer()
    parser.add_argument('--images', type=Path, metavar='DIR', help='folder of the photographs')
    parser.add_argument('--protocol', choices=available_protocols(), default='original')
    parser.add_argument(
        '--num', type=int, default=40, help='pictures of so many worst, best, and others (40 each)'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('report.html'), metavar='FILE', help='default: %(default)s'
    )
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num must be at least 1, got {args.num}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Score every sentence, draw some, write the page."""
    args = parse_args(argv)
    index = ReferIndex.open(args.data_root, args.dataset, args.split_by)
    masks = load_predictions(args.predictions)
    metric = RISMetric(args.protocol)
    entries = score_entries(masks, index, args.split, metric)
    counts = {i: c for e in entries for i, c in zip(e.sent_ids, e.counts[0])}
    [protocol] = metric.protocols
    rows = rows_of(index, args.split, counts, protocol)
    folder = args.data_root / (args.images or default_image_dir(args.data_root, args.dataset))
    shown = dict(pictures(index, chosen_rows(rows, args.num), masks, folder))
    title = f'{args.predictions.stem}: {args.dataset} {args.split}'
    write_report(args.out, title, rows, protocol, shown, named=bool(kinds_of(index)))
    size = args.out.stat().st_size / 1e6
    print(f'{len(rows)} sentences, {len(shown)} with pictures: {args.out} ({size:.1f} MB)')


if __name__ == '__main__':
    run(main)
