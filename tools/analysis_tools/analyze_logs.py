"""Curves of trainings: loss, scores, learning rates, of one run or of several seeds.

    python tools/analysis_tools/analyze_logs.py 'plain=work_dirs/caris_*_seed*' \\
        'AML=work_dirs/aml_caris_*_seed*' --keys loss ris/original/mIoU --out curves.png

Runs of one name are seeds of one setting: their mean is drawn with a band of ± one sample
deviation. Without NAME=, folders whose names differ only in `_seed0`, `_seed1` ... belong together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mmseg_aml  # noqa: F401
from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.study.logs import group_runs, read_run, together
from mmseg_aml.study.plots import plot_curves
from mmseg_aml.study.statistics import Spread, markdown


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('runs', nargs='+', metavar='[NAME=]RUN', help='work folders; * and ? work')
    parser.add_argument(
        '--keys', nargs='+', default=['loss'], metavar='KEY', help='what to draw (default: loss)'
    )
    parser.add_argument('--list', action='store_true', help='only list the keys that there are')
    parser.add_argument(
        '--smooth', type=int, default=1, metavar='N', help='moving mean over N logged steps'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('curves.png'), metavar='FILE', help='default: %(default)s'
    )
    parser.add_json('the last and the best values')
    args = parser.parse_args(argv)
    if args.smooth < 1:
        parser.error(f'--smooth must be at least 1, got {args.smooth}')
    return args


def summary(groups: dict[str, list[Any]], keys: list[str]) -> dict[str, dict[str, Any]]:
    """``{group: {key: {runs, last step, last, deviation}}}`` at the last common step."""
    found: dict[str, dict[str, Any]] = {}
    for name, runs in groups.items():
        for key in keys:
            curves = [curves[key] for curves in runs if key in curves]
            steps, values = together(curves)
            if not len(steps):
                continue
            last = Spread.of(values[:, -1].tolist())
            longest = max(max(curve) for curve in curves)
            found.setdefault(name, {})[key] = dict(
                runs=last.count,
                step=int(steps[-1]),
                longest=longest,
                mean=last.mean,
                deviation=last.deviation if last.count > 1 else None,
            )
    return found


def rows(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The summary as lines of a table."""
    lines = [['runs', 'key', 'number', 'step', 'mean', 'deviation']]
    for name, keys in found.items():
        for key, row in keys.items():
            spread = '' if row['deviation'] is None else f'{row["deviation"]:.4g}'
            step = f'{row["step"]}' + (
                f' of {row["longest"]}' if row['longest'] > row['step'] else ''
            )
            lines.append([name, key, str(row['runs']), step, f'{row["mean"]:.4g}', spread])
    return lines


def main(argv: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Draw, and print the values at the last step that all runs of a name have."""
    args = parse_args(argv)
    groups = {n: [read_run(path) for path in paths] for n, paths in group_runs(args.runs).items()}
    there = sorted({key for runs in groups.values() for curves in runs for key in curves})
    if args.list:
        print('\n'.join(there))
        return {}
    absent = [key for key in args.keys if key not in there]
    if absent:
        raise ValueError(f'no run logged {absent}; there are: {", ".join(there)}')
    found = summary(groups, args.keys)
    plot_curves(groups, args.keys, args.out, args.smooth)
    print(markdown(rows(found)))
    print(f'curves: {args.out}')
    write_json(args.json, found)
    return found


if __name__ == '__main__':
    run(main)
