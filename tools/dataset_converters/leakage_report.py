"""Does a training set contain photographs of an evaluation split?

    python tools/dataset_converters/leakage_report.py \\
        --train "data/refer/refcoco(unc):train" my_extra_training_data.json \\
        --eval "data/refer/refcocog(umd):val,test" "data/refer/refcoco+:*"

A source is FOLDER(BY):SPLITS (REFER annotations; * = all splits but train), a .json file
(COCO or MDETR style, or a list of records, ids or file names), or a .txt file (one id or
file name a line). COCO photographs are told apart by their number, so COCO's train2014 and
train2017 names agree. Exits with 1 if there is a leak.
"""

from __future__ import annotations

from typing import Any

from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.datasets.image_lists import Key, photos_of
from mmseg_aml.progress import track


def leaks(train: dict[str, set[Key]], evaluation: dict[str, set[Key]]) -> list[dict[str, Any]]:
    """One record per pair: ``train``, ``eval``, ``eval_images``, and ``shared``, sorted."""
    return [
        {
            'train': train_name,
            'eval': eval_name,
            'eval_images': len(eval_keys),
            'shared': sorted(train_keys & eval_keys, key=lambda key: (isinstance(key, str), key)),
        }
        for train_name, train_keys in train.items()
        for eval_name, eval_keys in evaluation.items()
    ]


def describe(record: dict[str, Any]) -> str:
    """One line about a pair."""
    shared = record['shared']
    head = f'{record["train"]}  vs  {record["eval"]}: '
    if not shared:
        return head + f'clean (0 of {record["eval_images"]} evaluation images)'
    share = 100 * len(shared) / record['eval_images']
    some = ', '.join(map(str, shared[:5])) + (', ...' if len(shared) > 5 else '')
    return (
        head + f'LEAK: {len(shared)} of {record["eval_images"]} images ({share:.1f} %), e.g. {some}'
    )


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = ToolParser(__doc__)
    parser.add_argument('--train', nargs='+', required=True, metavar='SOURCE')
    parser.add_argument('--eval', nargs='+', required=True, metavar='SOURCE')
    parser.add_json('all shared images')
    args = parser.parse_args(argv)
    sources = list(dict.fromkeys([*args.train, *args.eval]))
    photos = {source: photos_of(source) for source in track(sources, 'sources', 'file')}
    train, evaluation = ({s: photos[s] for s in part} for part in (args.train, args.eval))
    records = leaks(train, evaluation)
    print('\n'.join(map(describe, records)))
    write_json(args.json, records)
    leaked = any(record['shared'] for record in records)
    if leaked:
        print('Train without these images; mmseg_aml.MixedRefDataset does so for RefCOCO/+/g.')
    return int(leaked)


if __name__ == '__main__':
    run(main)
