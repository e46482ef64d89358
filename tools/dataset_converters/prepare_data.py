"""Bring data into the layout that training reads, and check a folder end to end.

Your own photographs, masks and sentences (docs/data.md has the columns):

    python tools/dataset_converters/prepare_data.py convert sentences.csv \\
        --instances coco.json --images photos --to data/own --dataset mine
    prepare_data.py convert sentences.csv --masks masks --images photos --to data/own --dataset mine
    prepare_data.py convert labelme_folder --images photos --to data/own --dataset mine

Mirrors of RefCOCO and its kin:

    prepare_data.py convert finetune_refcoco_*.json --to data/refer --dataset refcoco \\
        --split-by unc --instances instances_train2014.json
    prepare_data.py convert refs.p --format refer --to data/refer --dataset refcoco+ \\
        --split-by unc --instances instances.json

    prepare_data.py check data/own

`check` reads every annotation, mask and image of every data set in the folder, compares counts
with published ones, and says what is wrong and how to mend it; it exits with 1 if there is a
problem. If it says ok, training and validation can read all of it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.datasets.check import Report, check_dataset, find_datasets
from mmseg_aml.datasets.coco_to_refer.convert import link_images
from mmseg_aml.datasets.mirrors import ReferWriter, add_mdetr, add_parquet, convert_refer
from mmseg_aml.datasets.own_data import add_coco_table, add_labelme, add_mask_table
from mmseg_aml.datasets.refer import LAYOUTS, default_image_dir
from mmseg_aml.datasets.refer_files import Instances, find_refer_files, read_json
from mmseg_aml.datasets.splits import draw_splits, read_splits, shares_of
from mmseg_aml.datasets.tables import Splits

LAYOUT = """\
{root}/
  refcoco/    refs(unc).p                  instances.json
  refcoco+/   refs(unc).p                  instances.json
  refcocog/   refs(umd).p  refs(google).p  instances.json
  grefcoco/   grefs(unc).json              instances.json
  images/train2014/COCO_train2014_*.jpg    (elsewhere: --images)
  <own>/      refs(own).json               instances.json
  images/                                  of one's own data"""
OWN = ('coco', 'masks', 'labelme')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    check = commands.add_parser('check', help='check a data root, or one data set')
    check.add_argument('data_root', type=Path, help='folder of data sets, or of one')
    check.add_argument(
        '--datasets', nargs='+', metavar='NAME:BY', help='such as refcoco:unc (default: all there)'
    )
    check.add_argument(
        '--images', type=Path, metavar='DIR', help='absolute, or relative to the data root'
    )
    check.renamed('--image-dir', '--images')
    check.add_argument('--no-masks', action='store_true', help='do not rasterise the masks')
    check.add_argument('--no-images', action='store_true', help='do not decode the images')
    check.add_json('the report')
    convert = commands.add_parser('convert', help='convert own data, or a mirror, to the layout')
    convert.add_argument(
        'sources', nargs='+', type=Path, help='table of sentences, LabelMe folder, or mirror files'
    )
    convert.add_argument('--format', choices=[*OWN, 'refer', 'mdetr', 'parquet'])
    convert.add_argument('--to', required=True, type=Path, metavar='DATA_ROOT')
    convert.add_argument('--dataset', required=True, help='sub-folder to write')
    convert.add_argument(
        '--split-by', help='in the name of the refs file (own data: own, else unc)'
    )
    convert.add_argument('--instances', type=Path, help='COCO file with the masks')
    convert.add_argument(
        '--images',
        type=Path,
        metavar='DIR',
        help='folder of the photographs; those embedded in parquet files are written there',
    )
    convert.renamed('--image-dir', '--images')
    own = convert.add_argument_group('own data')
    own.add_argument('--masks', type=Path, metavar='DIR', help='folder of the mask images')
    own.add_argument('--split', help='split of all rows that name none')
    own.add_argument(
        '--splits',
        type=Path,
        metavar='FILE',
        help='JSON: {"train": [image ids or file names], "val": [...]}',
    )
    own.add_argument(
        '--shares',
        nargs='+',
        default=['train=0.8', 'val=0.2'],
        metavar='SPLIT=SHARE',
        help='of the images whose split nothing else tells, drawn at random (%(default)s)',
    )
    own.add_argument('--seed', type=int, default=0, help='of that draw (default 0)')
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> int:
    """Print one screen; returns the exit code."""
    root, found = find_datasets(args.data_root)
    if args.datasets:
        items = (item.partition(':') for item in args.datasets)
        usual = {name: by for name, by in reversed(found)}
        usual |= {name: layout.split_by for name, layout in LAYOUTS.items()}
        found = [(name, by or usual.get(name, 'own')) for name, _, by in items]
    reports = []
    for name, by in found:
        folder = root / Path(args.images or default_image_dir(root, name)).expanduser()
        options = dict(masks=not args.no_masks, pixels=not args.no_images)
        report = check_dataset(root, name, by, folder, **options)
        print_report(report)
        reports.append(report)
    write_json(args.json, [asdict(report) for report in reports])
    problems = sum(len(report.problems) for report in reports)
    if not reports:
        print(f'no data set in {args.data_root}. Where files belong:')
    if problems or not reports:
        print(LAYOUT.format(root=root))
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


def format_of(args: argparse.Namespace) -> str:
    """The form of the sources, by what was given."""
    if args.format:
        return args.format
    first = args.sources[0]
    if first.suffix in ('.csv', '.tsv', '.jsonl', '.ndjson'):
        if bool(args.instances) == bool(args.masks):
            raise ValueError(f'{first.name} is about masks: give --instances FILE or --masks DIR')
        return 'coco' if args.instances else 'masks'
    if first.is_dir():
        return 'labelme'
    kinds = {'.json': 'mdetr', '.parquet': 'parquet', '.p': 'refer', '.pkl': 'refer'}
    if first.suffix not in kinds:
        raise ValueError(f'give --format: {first.name} does not tell it')
    return kinds[first.suffix]


def convert(args: argparse.Namespace) -> int:
    """Convert the sources; returns the exit code."""
    kind = format_of(args)
    by = args.split_by or ('own' if kind in OWN else 'unc')
    folder = args.to / args.dataset
    if kind == 'refer':
        if len(args.sources) != 1 or not args.instances:
            raise ValueError('REFER data are one refs file and --instances FILE')
        convert_refer(args.sources[0], args.instances, folder, by)
    elif kind in OWN:
        convert_own(args, kind, folder, by)
    else:
        writer = ReferWriter(masks_of(args.instances) if args.instances else None)
        for source in args.sources:
            if kind == 'mdetr':
                add_mdetr(writer, source)
            else:
                add_parquet(writer, source, args.images)
        writer.write(folder, by)
    print(f'wrote {find_refer_files(args.to, args.dataset, by).refs}; now run: check {args.to}')
    return 0


def convert_own(args: argparse.Namespace, kind: str, folder: Path, by: str) -> None:
    """Convert own data; the images are linked, not copied."""
    if not args.images:
        raise ValueError('own data need --images DIR, the folder of the photographs')
    listed = read_splits(args.splits) if args.splits else {}
    of_image = {str(image): split for split, images in listed.items() for image in images}
    splits = Splits(of_image, args.split or '')
    writer = ReferWriter()
    if kind == 'labelme':
        files = [f for s in args.sources for f in (s.glob('*.json') if s.is_dir() else [s])]
        if not files:
            raise ValueError(f'no .json file in {args.sources[0]}')
        add_labelme(writer, files, args.images, splits)
    for table in args.sources if kind != 'labelme' else ():
        if kind == 'coco':
            add_coco_table(writer, args.instances, table, splits)
        else:
            add_mask_table(writer, args.masks, table, args.images, splits)
    if not writer.refs:
        raise ValueError(f'no sentence in {args.sources[0]}')
    draw_missing(writer, shares_of(args.shares), args.seed)
    link_images([args.images], args.to / default_image_dir(args.to, args.dataset))
    writer.write(folder, by)


def draw_missing(writer: ReferWriter, shares: dict[str, float], seed: int) -> None:
    """Give the images that are in no split one, at random."""
    unknown = [ref for ref in writer.refs.values() if not ref['split']]
    drawn = draw_splits({ref['image_id'] for ref in unknown}, shares, seed)
    split_of = {image: split for split, images in drawn.items() for image in images}
    for ref in unknown:
        ref['split'] = split_of[ref['image_id']]


def masks_of(path: Path) -> dict[int, object]:
    """Annotation id -> segmentation of a COCO file."""
    instances: Instances = read_json(path, Instances)
    return {a.id: json.loads(bytes(a.segmentation)) for a in instances.annotations}


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    args = parse_args(argv)
    return check(args) if args.command == 'check' else convert(args)


if __name__ == '__main__':
    run(main)
