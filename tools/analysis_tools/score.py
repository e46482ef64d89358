"""Score saved masks without a model.

    python tools/analysis_tools/score.py PREDICTIONS.json --data-root data/refer \\
        --dataset refcoco --split testA --protocol original lisa-original --json scores.json

PREDICTIONS.json: {"sent_id": {"size": [h, w], "counts": "<COCO RLE>"}}, one mask per sentence
of the split, as ``tools/test.py --out`` writes it. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mmseg_aml  # noqa: F401
from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.datasets.refer import ReferIndex
from mmseg_aml.evaluation import GRESMetric, RISMetric, available_protocols
from mmseg_aml.evaluation.offline import load_predictions, score_predictions


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('predictions', type=Path)
    parser.add_refer()
    parser.add_argument(
        '--protocol', nargs='+', default=['original'], choices=available_protocols()
    )
    parser.add_argument(
        '--metric', choices=('ris', 'gres'), help='default: gres for grefcoco, else ris'
    )
    parser.add_argument(
        '--area-threshold', type=int, default=50, help='gres: fewer pixels mean no target'
    )
    parser.add_json('the scores')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Score, print the table, return the scores."""
    args = parse_args(argv)
    kind = args.metric or ('gres' if args.dataset == 'grefcoco' else 'ris')
    if kind == 'gres':
        metric = GRESMetric(args.protocol, area_threshold=args.area_threshold)
    else:
        metric = RISMetric(args.protocol)
    index = ReferIndex.open(args.data_root, args.dataset, args.split_by)
    scores = score_predictions(load_predictions(args.predictions), index, args.split, metric)
    write_json(args.json, scores)
    return scores


if __name__ == '__main__':
    run(main)
