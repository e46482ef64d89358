"""What a network of this package learns from a few hundred photographs: docs/photos.md's table.

    python benchmarks/photos.py data --instances A.json B.json --images A B --splits splits.json \\
        --written REFER_ROOT REFER_DATASET       # makes data/photos
    python benchmarks/photos.py table --json benchmarks/results/photos.json

`data` makes sentences for COCO-format photographs (coco_to_refer) and adds, for training only,
sentences that somebody wrote ("written") and one for all objects of a category ("all the dogs").
`table` trains every cell by tools/train.py, and goes on where it stopped. The last checkpoint is
tested, so nothing is chosen by validation. Scores are of the protocol `original`, on targets of
at least 1 % of the photograph, by kind of sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mmseg_aml.apis import RISInferencer
from mmseg_aml.datasets.refer import ReferIndex, decode_masks
from mmseg_aml.datasets.refer_files import read_json, read_refs
from mmseg_aml.evaluation.protocols import get_protocols
from mmseg_aml.evaluation.scores import ris_scores

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/photos/wordquery_lite0-{}_1xb8-12e_photos-384x384.py'
SAME = [
    f'{part}_dataloader.dataset.type=mmseg_aml.SameExpression' for part in ('train', 'val', 'test')
]
UNTRAINED = [  # the same towers with random weights
    'model.backbone.backbone.pretrained=None',
    *(
        f'model.text_encoder.config.{setting}'
        for setting in (
            'model_type=bert',
            'hidden_size=384',
            'num_hidden_layers=2',
            'num_attention_heads=12',
            'intermediate_size=1536',
            'max_position_embeddings=32',
        )
    ),
]
CELLS: dict[str, tuple[str, list[str]]] = {  # name -> config, options
    'small text tower': ('words', []),
    'MiniLM': ('minilm', []),
    'no text': ('words', SAME),
    'random towers': ('words', UNTRAINED),
}
TESTS = {'test': ('photos', 'test'), 'written': ('written', 'val')}  # data set and split
SAME_SENTENCE = 'the object'
VARIANTS = {'own': '', 'shuffled': ', sentences of other images', 'same': ', one sentence for all'}
METRICS = ('mIoU', 'oIoU', 'Pr@0.5')
SMALLEST = 0.01  # share of the photograph
Counts = dict[str, list[list[int]]]  # kind -> (intersection, union) of every sentence


class Asked(NamedTuple):
    """One photograph, its size (H, W), and per sentence the ref and the true mask (H, W)."""

    file_name: str
    size: tuple[int, int]
    refs: list[dict[str, Any]]
    sentences: list[dict[str, Any]]
    truths: list[np.ndarray]


Predict = Callable[[Asked, Asked], dict[str, list[np.ndarray]]]  # (photograph, another one)


# --- data ------------------------------------------------------------------------------------


def make_data(args: argparse.Namespace) -> None:
    """``photos``: what is trained and tested on. ``written``: sentences of people or machines.

    Tested are objects of 1 % of the photograph and more; in training smaller ones, more sentences
    an object, the written ones and one for each category join in.
    """
    from mmseg_aml.datasets.coco_to_refer.convert import Source, convert_coco
    from mmseg_aml.datasets.mirrors import write_refer

    splits = read_json(args.splits)
    sources = [Source(file, folder) for file, folder in zip(args.instances, args.images)]
    made = {}
    for name, options in {'train': dict(count=6, min_area=0.004), 'judged': {}}.items():
        statistics = convert_coco(
            sources, args.out, f'.{name}', splits=splits.get('splits', splits), **options
        )
        print(f'{name}:', *statistics.lines(), sep='\n  ')
        made[name] = args.out / f'.{name}'
    refs = [r for r in refs_in(made['train']) if r['split'] == 'train']
    refs += [r for r in refs_in(made['judged']) if r['split'] != 'train']
    instances = read_json(made['judged'] / 'instances.json')
    root, dataset = args.written
    written = refs_in(Path(root) / dataset)
    split_of = {image: name for name, ids in splits.get('splits', splits).items() for image in ids}
    refs += [r for r in written if r['split'] == split_of.get(r['image_id']) == 'train']
    refs += list(categories_of(instances, split_of))
    write_refer(args.out / 'photos', 'own', renumbered(refs), instances)
    held_out = [r for r in written if r['split'] == split_of.get(r['image_id']) == 'val']
    write_refer(args.out / 'written', 'own', renumbered(held_out), instances)
    for folder in made.values():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def refs_in(folder: Path) -> list[dict[str, Any]]:
    """The refs of the one refs file in a folder."""
    return read_refs(next(folder.glob('refs(*)*')))


def categories_of(instances: dict[str, Any], split_of: dict[int, str]) -> Iterator[dict[str, Any]]:
    """All objects of a category as one target, if 0.5 % of a training photograph or more."""
    names = {category['id']: category['name'] for category in instances['categories']}
    sizes = {image['id']: image['height'] * image['width'] for image in instances['images']}
    groups: dict[tuple[int, int], list[dict]] = defaultdict(list)
    for annotation in instances['annotations']:
        groups[annotation['image_id'], annotation['category_id']].append(annotation)
    for (image, category), members in groups.items():
        large = sum(a['area'] for a in members) > 0.005 * sizes[image]
        if split_of[image] == 'train' and large:
            name = names[category]
            texts = (f'all {plural(name)}', f'all the {plural(name)}', f'every {name}')
            yield dict(
                ann_id=[a['id'] for a in members],
                image_id=image,
                split='train',
                category_id=category,
                sentences=[dict(sent=text, raw=text, source='category') for text in texts],
            )


def plural(name: str) -> str:
    """Of a COCO category."""
    odd = {'person': 'people', 'mouse': 'mice', 'knife': 'knives', 'broccoli': 'broccoli'}
    if name in odd or name.endswith(('skis', 'scissors', 'sheep')):
        return odd.get(name, name)
    return name + ('es' if name.endswith(('s', 'ch', 'sh')) else 's')


def renumbered(refs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The refs with ids of their own, since they come from several files."""
    count = 0
    for ref_id, ref in enumerate(refs):
        for sentence in ref['sentences']:
            sentence['sent_id'], count = count, count + 1
        ref.update(ref_id=ref_id, sent_ids=[s['sent_id'] for s in ref['sentences']])
    return refs


# --- scores ----------------------------------------------------------------------------------


def counts_of(folder: Path, split: str, predict: Predict) -> dict[str, Counts]:
    """Intersection and union of every sentence: variant of the predictor -> kind -> pairs.

    Args:
        folder: ``<data_root>/<dataset>``.
        predict: Masks for all sentences of a photograph, by variant.
    """
    index = ReferIndex.open(folder.parent, folder.name, 'own')
    records = {ref['ref_id']: ref for ref in refs_in(folder)}
    photographs: dict[int, list[int]] = defaultdict(list)
    for row in index.rows(split).tolist():
        photographs[index.ref(row).image.image_id].append(row)
    counts: dict[str, Counts] = defaultdict(lambda: defaultdict(list))
    asked: list[Asked] = []
    for rows in photographs.values():
        image = index.ref(rows[0]).image
        asked.append(Asked(image.file_name, (image.height, image.width), [], [], []))
        for row in rows:
            truth = decode_masks(index.segmentations(row), image.height, image.width).astype(bool)
            record = records[index.ref(row).ref_id]
            for sentence in record['sentences'] if truth.mean() >= SMALLEST else []:
                asked[-1].refs.append(record)
                asked[-1].sentences.append(sentence)
                asked[-1].truths.append(truth)
    asked = [one for one in asked if one.sentences]
    for i, one in enumerate(asked):
        other = asked[(i + len(asked) // 2) % len(asked)]
        for variant, masks in predict(one, other).items():
            for sentence, truth, mask in zip(one.sentences, one.truths, masks):
                pair = [int((mask & truth).sum()), int((mask | truth).sum())]
                for kind in ('all', sentence.get('kind', 'written')):
                    counts[variant][kind].append(pair)
    return counts


def scores_of(counts: Counts) -> dict[str, dict[str, float]]:
    """Kind -> metric -> percent, and the number of sentences."""
    protocol = get_protocols(['original'])[0]
    found = {}
    for kind, pairs in sorted(counts.items()):
        scores = ris_scores(np.array(pairs, np.int64), protocol)
        found[kind] = {name: round(scores[name], 2) for name in METRICS} | {'n': len(pairs)}
    return found


def reader(segment: RISInferencer, images: Path) -> Predict:
    """A trained network, asked by its own sentences, by others', and by one for all."""
    from mmengine.dataset import pseudo_collate

    from mmseg_aml.apis.inferencer import read_image

    model: Any = segment.model

    def predict(one: Asked, other: Asked) -> dict[str, list[np.ndarray]]:
        own, others = ([s['sent'] for s in x.sentences] for x in (one, other))
        shuffled = [others[i % len(others)] for i in range(len(own))]
        texts = [*own, *shuffled, SAME_SENTENCE]
        pixels = read_image(images / one.file_name)
        expressions = [dict(expression=text, sent_id=i) for i, text in enumerate(texts)]
        item = dict(img=pixels, height=one.size[0], width=one.size[1], expressions=expressions)
        with torch.no_grad():
            samples = model.test_step(pseudo_collate([segment.pipeline(item)]))
        masks = [sample.pred_sem_seg.data[0].bool().numpy() for sample in samples]
        n = len(own)
        return dict(own=masks[:n], shuffled=masks[n : 2 * n], same=[masks[-1]] * n)

    return predict


def largest(folder: Path) -> Predict:
    """A baseline that sees the annotations: the largest object of the target's category."""
    data = read_json(folder / 'instances.json')
    best: dict[tuple[int, int], dict] = {}
    for annotation in data['annotations']:
        key = annotation['image_id'], annotation['category_id']
        known = best.get(key, {'area': 0})
        if not annotation.get('iscrowd') and annotation['area'] > known['area']:
            best[key] = annotation
    category = {annotation['id']: annotation['category_id'] for annotation in data['annotations']}

    def predict(one: Asked, other: Asked) -> dict[str, list[np.ndarray]]:
        chosen = [best[ref['image_id'], category[ref['ann_id']]] for ref in one.refs]
        masks = [decode_masks([a['segmentation']], *one.size).astype(bool) for a in chosen]
        return dict(own=masks)

    return predict


# --- cells -----------------------------------------------------------------------------------


def tool(name: str, *arguments: object, log: Path) -> None:
    """Runs a tool of this package on one CPU thread; its output goes to ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as stream:
        finished = subprocess.run(
            [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if finished.returncode:
        raise RuntimeError(f'tools/{name} ended with exit code {finished.returncode}: see {log}')


def run_cell(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and tests one cell with one seed: variant -> test -> kind -> metric."""
    kind, options = CELLS[name]
    config = ROOT / CONFIG.format(kind)
    folder = args.out / f'{name.replace(" ", "-")}_seed{seed}'
    epochs = [f'train_cfg.max_epochs={args.epochs}', f'param_scheduler.1.end={args.epochs}']
    checkpoint = folder / f'epoch_{args.epochs}.pth'
    if not checkpoint.is_file():
        tool(
            'train.py', config, '--work-dir', folder, '--resume', '--cfg-options', *options,
            *epochs, f'randomness.seed={seed}', log=folder / 'output.txt',
        )  # fmt: skip
    overrides = dict(option.split('=', 1) for option in options if option.startswith('model.'))
    return test(RISInferencer(str(config), checkpoint, cfg_options=overrides), args.data)


def test(segment: RISInferencer, data: Path) -> dict[str, Any]:
    """Scores of one network: variant -> test -> kind -> metric."""
    predict = reader(segment, data / 'images')
    found: dict[str, Any] = defaultdict(dict)
    for name, (dataset, split) in TESTS.items():
        for variant, counts in counts_of(data / dataset, split, predict).items():
            found[variant][name] = scores_of(counts)
    return found


def make_table(args: argparse.Namespace) -> None:
    """All cells and baselines; writes the report."""
    os.environ['PHOTOS_ROOT'] = str(args.data)
    os.environ.setdefault('FEATURE_CACHE', str(args.out / 'features'))
    results: dict[str, dict[str, Any]] = {
        'largest of the category (sees the annotations)': {'0': {}}
    }
    for test, (dataset, split) in TESTS.items():
        counts = counts_of(args.data / dataset, split, largest(args.data / dataset))['own']
        results['largest of the category (sees the annotations)']['0'][test] = scores_of(counts)
    for name, seed in product(args.cells, args.seeds):
        for variant, scores in run_cell(name, seed, args).items():
            if (variant == 'same') or SAME[0] not in CELLS[name][1]:
                results.setdefault(name + VARIANTS[variant], {})[str(seed)] = scores
    report = dict(protocol='original', smallest=SMALLEST, epochs=args.epochs, results=results)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + '\n')
    print(markdown(results))


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """mIoU, oIoU and Pr@0.5 by test and kind, mean over the seeds."""
    first = next(iter(next(iter(results.values())).values()))
    columns = [(test, kind) for test in TESTS for kind in first[test] if kind != 'written']
    lines = [
        ['', *(f'{test}: {kind} ({first[test][kind]["n"]})' for test, kind in columns)],
        ['---'] * (1 + len(columns)),
    ]
    for name, seeds in results.items():
        row = [f'{name} ({len(seeds)} seed{"s" * (len(seeds) > 1)})']
        for test, kind in columns:
            values = [
                statistics.mean(scores[test][kind][metric] for scores in seeds.values())
                for metric in METRICS
            ]
            row.append(' / '.join(f'{value:.1f}' for value in values))
        lines.append(row)
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line; see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    data = commands.add_parser('data', help='make the data set')
    data.add_argument('--instances', type=Path, nargs='+', required=True)
    data.add_argument('--images', type=Path, nargs='+', required=True)
    data.add_argument('--splits', type=Path, required=True)
    data.add_argument('--written', nargs=2, required=True, metavar=('REFER_ROOT', 'DATASET'))
    data.add_argument('--out', type=Path, default=ROOT / 'data/photos')
    table = commands.add_parser('table', help='train and test')
    table.add_argument('--data', type=Path, default=ROOT / 'data/photos')
    table.add_argument('--out', type=Path, default=ROOT / 'work_dirs/photos')
    table.add_argument('--cells', nargs='+', default=list(CELLS), choices=CELLS)
    table.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    table.add_argument('--epochs', type=int, default=12)
    table.add_argument('--json', type=Path)
    score = commands.add_parser('score', help='test a published model')
    score.add_argument('folder', type=Path)
    score.add_argument('--data', type=Path, default=ROOT / 'data/photos')
    args = parser.parse_args(arguments)
    if args.command != 'score':
        args.out = args.out.resolve()
    if args.command == 'data':
        make_data(args)
    elif args.command == 'table':
        args.data = args.data.resolve()
        make_table(args)
    else:
        found = test(RISInferencer.from_pretrained(args.folder), args.data.resolve())
        print(markdown({args.folder.name + VARIANTS[v]: {'0': found[v]} for v in found}))


if __name__ == '__main__':
    main()
