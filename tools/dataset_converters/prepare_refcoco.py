"""Check a data root end to end, or convert a mirror to its layout.

    python tools/dataset_converters/prepare_refcoco.py check data/refer
    python tools/dataset_converters/prepare_refcoco.py convert finetune_refcoco_*.json \\
        --to data/refer --dataset refcoco --split-by unc --instances instances_train2014.json
    python tools/dataset_converters/prepare_refcoco.py convert refs.p --format refer \\
        --to data/refer --dataset refcoco+ --split-by unc --instances instances.json

`check` compares counts with the published ones, looks for every image, rasterises every mask
and tells what is missing and where it belongs; it exits with 1 if there is a problem.
`convert` reads REFER pickles or JSON, MDETR-style JSON, or Hugging Face parquet.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from mmseg_aml.datasets.check import PUBLISHED, Report, check_dataset
from mmseg_aml.datasets.mirrors import ReferWriter, add_mdetr, add_parquet, convert_refer
from mmseg_aml.datasets.refer import LAYOUTS
from mmseg_aml.datasets.refer_files import Instances, find_refer_files, read_json

LAYOUT = """\
{root}/
  refcoco/    refs(unc).p                  instances.json
  refcoco+/   refs(unc).p                  instances.json
  refcocog/   refs(umd).p  refs(google).p  instances.json
  grefcoco/   grefs(unc).json              instances.json
  images/train2014/COCO_train2014_*.jpg    (elsewhere: --image-dir)"""


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    check = commands.add_parser('check', help='check a data root')
    check.add_argument('data_root', type=Path)
    check.add_argument(
        '--datasets',
        nargs='+',
        metavar='NAME:BY',
        help='such as refcoco:unc (default: all known ones whose folder is there)',
    )
    check.add_argument('--image-dir', help='absolute, or relative to the data root')
    check.add_argument('--no-masks', action='store_true', help='do not rasterise the masks')
    check.add_argument('--json', type=Path, help='also write the report here')
    convert = commands.add_parser('convert', help='convert a mirror to the layout')
    convert.add_argument('sources', nargs='+', type=Path)
    convert.add_argument('--format', choices=['refer', 'mdetr', 'parquet'])
    convert.add_argument('--to', required=True, type=Path, metavar='DATA_ROOT')
    convert.add_argument('--dataset', required=True, help='sub-folder to write')
    convert.add_argument('--split-by', default='unc')
    convert.add_argument('--instances', type=Path, help='file with the masks, by annotation id')
    convert.add_argument('--image-dir', type=Path, help='store embedded images here')
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> list[tuple[str, str]]:
    """(data set, split author) to check."""
    if args.datasets:
        return [
            (name, by or LAYOUTS[name].split_by)
            for name, _, by in (item.partition(':') for item in args.datasets)
        ]
    return [key for key in PUBLISHED if (args.data_root / key[0]).is_dir()]


def check(args: argparse.Namespace) -> int:
    """Print one screen; returns the exit code."""
    reports = []
    for name, by in chosen(args):
        folder = args.data_root / (
            args.image_dir or LAYOUTS.get(name, LAYOUTS['refcoco']).image_dir
        )
        report = check_dataset(args.data_root, name, by, folder, masks=not args.no_masks)
        print_report(report)
        reports.append(report)
    if args.json:
        args.json.write_text(json.dumps([asdict(report) for report in reports], indent=2) + '\n')
    problems = sum(len(report.problems) for report in reports)
    if not reports:
        print(f'no known data set in {args.data_root}. Where files belong:')
    if problems or not reports:
        print(LAYOUT.format(root=args.data_root))
    print(f'{len(reports)} data set(s) checked, {problems} problem(s)')
    return int(bool(problems) or not reports)


def print_report(report: Report) -> None:
    """A few lines about one data set."""
    counts = ', '.join(f'{count} {name}' for name, count in report.counts.items())
    print(f'{"FAIL" if report.problems else "ok  "} {report.name}: {counts or "not readable"}')
    if report.splits:
        print('       refs: ' + ', '.join(f'{k} {v}' for k, v in report.splits.items()))
    for note in report.notes:
        print(f'     - {note}')
    for problem in report.problems:
        print(f'     ! {problem}')


def convert(args: argparse.Namespace) -> int:
    """Convert the sources; returns the exit code."""
    kinds = {'.json': 'mdetr', '.parquet': 'parquet', '.p': 'refer', '.pkl': 'refer'}
    kind = args.format or kinds.get(args.sources[0].suffix)
    folder = args.to / args.dataset
    if kind is None:
        raise ValueError(f'give --format: {args.sources[0].name} does not tell it')
    if kind == 'refer':
        if len(args.sources) != 1 or not args.instances:
            raise ValueError('REFER data are one refs file and --instances FILE')
        convert_refer(args.sources[0], args.instances, folder, args.split_by)
    else:
        writer = ReferWriter(masks_of(args.instances) if args.instances else None)
        for source in args.sources:
            if kind == 'mdetr':
                add_mdetr(writer, source)
            else:
                add_parquet(writer, source, args.image_dir)
        writer.write(folder, args.split_by)
    print(f'wrote {find_refer_files(args.to, args.dataset, args.split_by).refs}; now run: check')
    return 0


def masks_of(path: Path) -> dict[int, object]:
    """Annotation id -> segmentation of a COCO file."""
    instances: Instances = read_json(path, Instances)
    return {a.id: json.loads(bytes(a.segmentation)) for a in instances.annotations}


def main() -> int:
    """Run the command; errors are one line."""
    args = parse_args()
    try:
        return check(args) if args.command == 'check' else convert(args)
    except (OSError, ValueError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
