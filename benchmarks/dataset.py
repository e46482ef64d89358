"""Start-up time, memory and speed of the data set against a plain reading, at RefCOCO size.

    python benchmarks/dataset.py --json benchmarks/results/dataset_cpu.json

Generates REFER annotations (by default as large as RefCOCO: 20,000 images, 50,000 refs,
142,000 sentences, 197,000 annotations) and measures, in fresh processes of the same run:

- ``plain``: pickle.load and json.load, dicts by id (as the REFER toolbox builds them), one
  random sentence per ref, every polygon layer decoded, float tensors made in the worker;
- ``index``: ``RefCOCODataset`` with its cached binary index, first and later start.

Times are CPU seconds. Memory is what the process(es) add to themselves before the data set,
in MiB: resident for the main process, proportional (shared pages counted once) for the
main process with four forked workers that have visited every ref. Run it on an idle machine;
the ratios are what counts.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmseg_aml.datasets.refcoco import RefCOCODataset

WORKERS = 4
FILES = 200  # distinct photographs; the images of the annotations share them
SIZE = (480, 640)
NETWORK = (448, 448)
WORDS = 'left right top man woman the in red blue shirt second from front dog with'.split()
PIPELINE = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.ResizeRIS', size=NETWORK),
    dict(type='mmseg_aml.PackRISInputs'),
]


def polygon(rng: np.random.Generator) -> list[float]:
    """A random star-shaped outline with as many points as COCO's, two decimals."""
    points = int(np.clip(rng.lognormal(3.1, 0.7), 4, 300))
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.5, 1, points) * rng.uniform(20, 160)
    x = np.clip(rng.uniform(80, 560) + radius * np.cos(angle), 0, SIZE[1])
    y = np.clip(rng.uniform(60, 420) + radius * np.sin(angle), 0, SIZE[0])
    return np.stack([x, y], 1).round(2).reshape(-1).tolist()


def generate(root: Path, images: int, seed: int = 0) -> None:
    """Write ``root/refcoco`` and ``root/images`` with ``images`` image records."""
    rng = np.random.default_rng(seed)
    annotations, refs, sent_id = [], [], 0
    for ann in range(int(images * 9.85)):
        parts = [polygon(rng) for _ in range(1 + (rng.random() < 0.12))]
        box = [float(v) for v in rng.uniform(0, 400, 4).round(2)]
        annotations.append(
            dict(segmentation=parts, area=float(rng.uniform(400, 9e4)), iscrowd=0)
            | dict(image_id=ann % images, bbox=box, category_id=1 + ann % 80, id=ann)
        )
    for ref in range(int(images * 2.5)):
        sentences = []
        for _ in range(rng.choice([2, 3, 4], p=[0.3, 0.56, 0.14])):
            tokens = rng.choice(WORDS, rng.integers(1, 7)).tolist()
            text = ' '.join(tokens)
            sentences.append(dict(tokens=tokens, raw=text, sent_id=sent_id, sent=text))
            sent_id += 1
        refs.append(
            dict(ref_id=ref, ann_id=ref, image_id=ref % images, category_id=1 + ref % 80)
            | dict(split='train' if ref % 6 else 'val', file_name=f'x_{ref}.jpg')
            | dict(sent_ids=[s['sent_id'] for s in sentences], sentences=sentences)
        )
    folder = root / 'refcoco'
    folder.mkdir(parents=True)
    records = [
        dict(license=1, file_name=f'{i % FILES}.jpg', coco_url=f'http://example.org/{i}.jpg')
        | dict(height=SIZE[0], width=SIZE[1], date_captured='2013-11-14 11:18:45', id=i)
        for i in range(images)
    ]
    categories = [dict(id=i, name=f'category {i}') for i in range(1, 81)]
    instances = dict(images=records, annotations=annotations, categories=categories)
    (folder / 'instances.json').write_text(json.dumps(instances))
    (folder / 'refs(unc).p').write_bytes(pickle.dumps(refs, protocol=2))
    (root / 'images').mkdir()
    for i in range(FILES):
        coarse = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC)
        photo.save(root / 'images' / f'{i}.jpg', quality=90)


class Plain(torch.utils.data.Dataset):
    """The plain reading: whole object graph in memory, found through dicts by id."""

    def __init__(self, root: Path) -> None:
        self.folder = root / 'images'
        with open(root / 'refcoco/refs(unc).p', 'rb') as file:
            refs = pickle.load(file)
        with open(root / 'refcoco/instances.json') as file:
            instances = json.load(file)
        self.anns = {ann['id']: ann for ann in instances['annotations']}
        self.images = {image['id']: image for image in instances['images']}
        self.cats = {cat['id']: cat['name'] for cat in instances['categories']}
        self.image_anns = collections.defaultdict(list)
        for ann in instances['annotations']:
            self.image_anns[ann['image_id']].append(ann)
        self.refs, self.image_refs, self.cat_refs = {}, {}, {}
        self.ref_ann, self.ann_ref, self.sents, self.sent_ref = {}, {}, {}, {}
        for ref in refs:
            self.refs[ref['ref_id']] = ref
            self.image_refs.setdefault(ref['image_id'], []).append(ref)
            self.cat_refs.setdefault(ref['category_id'], []).append(ref)
            self.ref_ann[ref['ref_id']] = self.anns[ref['ann_id']]
            self.ann_ref[ref['ann_id']] = ref
            for sentence in ref['sentences']:
                self.sents[sentence['sent_id']] = sentence
                self.sent_ref[sentence['sent_id']] = ref
        self.ids = [ref['ref_id'] for ref in refs if ref['split'] == 'train']

    def __len__(self) -> int:
        return len(self.ids)

    def visit(self, i: int) -> Any:
        """The annotations of one item."""
        ref = self.refs[self.ids[i % len(self)]]
        sentence = ref['sentences'][np.random.randint(len(ref['sentences']))]['sent']
        return self.images[ref['image_id']], self.ref_ann[ref['ref_id']], sentence

    def __getitem__(self, i: int) -> Any:
        image, ann, sentence = self.visit(i)
        photo = Image.open(self.folder / image['file_name']).convert('RGB')
        rles = coco_mask.frPyObjects(ann['segmentation'], image['height'], image['width'])
        mask = coco_mask.decode(rles).sum(axis=2)
        union = np.zeros(mask.shape)
        union[mask > 0] = 1
        union = Image.fromarray(union.astype(np.uint8))
        target = union.resize(NETWORK[::-1], Image.Resampling.NEAREST)
        pixels = np.array(photo.resize(NETWORK[::-1], Image.Resampling.BILINEAR))
        tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        tensor = (tensor - mean[:, None, None]) / std[:, None, None]
        return tensor, torch.as_tensor(np.array(target), dtype=torch.int64), sentence


class Index(RefCOCODataset):
    """Ours, with the plain reader's ``visit``."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), image_dir='images', pipeline=PIPELINE)

    def visit(self, i: int) -> Any:
        """The annotations of one item."""
        return self.get_data_info(i)


def memory(key: str, pid: int | str = 'self') -> float:
    """``Rss`` or ``Pss`` of a process in MiB."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{key}:')) / 1024


def with_workers(visit: Callable[[], Any]) -> float:
    """Proportional memory of this process and four forked workers after ``visit()`` in each."""
    context = multiprocessing.get_context('fork')
    ready, leave = context.Semaphore(0), context.Event()

    def work() -> None:
        visit()
        ready.release()
        leave.wait()

    workers = [context.Process(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    total = sum(memory('Pss', process) for process in [os.getpid(), *(w.pid for w in workers)])
    leave.set()
    for worker in workers:
        worker.join()
    return total


def start(make: Callable[[Path], Any], root: Path) -> dict[str, float]:
    """Start-up time and memory of one reader in this process."""
    before, before_workers = memory('Rss'), with_workers(gc.collect)
    began = time.process_time()
    data = make(root)
    seconds = time.process_time() - began
    added = memory('Rss') - before

    def visit_all() -> None:
        for i in range(len(data)):
            data.visit(i)
        gc.collect()

    added_by_all = with_workers(visit_all) - before_workers
    return dict(start_s=seconds, memory_mib=added, memory_4_workers_mib=added_by_all)


def speed(root: Path, samples: int) -> dict[str, float]:
    """Samples per CPU second; the readers take turns, so that a busy machine slows both."""
    readers = {'plain': Plain(root), 'index': Index(root)}
    seconds = dict.fromkeys(readers, 0.0)
    order = np.random.default_rng(0).permutation(len(readers['plain']))[: samples + 1].tolist()
    for warm, i in enumerate(order):
        for name, data in readers.items():
            began = time.process_time()
            data[i]
            seconds[name] += (time.process_time() - began) * (warm > 0)
    return {name: samples / total for name, total in seconds.items()}


def child(kind: str, root: Path, samples: int) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, '--child', kind, '--root', str(root)]
    output = subprocess.check_output([*command, '--samples', str(samples)], text=True)
    return json.loads(output.splitlines()[-1])


def compare(root: Path, samples: int) -> dict[str, Any]:
    """All figures, and ours as multiples of the plain reading's."""
    kinds = {'plain': 'plain', 'index_first': 'index', 'index_later': 'index'}
    figures: dict[str, Any] = {name: child(kind, root, 0) for name, kind in kinds.items()}
    figures['samples_per_s'] = child('speed', root, samples)
    ratios = {
        f'{name}/plain {key}': figures[name][key] / value
        for name in ('index_first', 'index_later')
        for key, value in figures['plain'].items()
    }
    fast = figures['samples_per_s']
    figures['ratios'] = {**ratios, 'index/plain samples_per_s': fast['index'] / fast['plain']}
    figures['files_mib'] = {
        path.name: path.stat().st_size / 2**20 for path in (root / 'refcoco').iterdir()
    }
    return json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 4))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=20_000, help='RefCOCO has 19,994')
    parser.add_argument('--samples', type=int, default=500, help='items to time')
    parser.add_argument('--json', type=Path, help='also write the figures here')
    parser.add_argument('--root', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--child', choices=['plain', 'index', 'speed'], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.child:
        makers = {'plain': Plain, 'index': Index}
        if args.child == 'speed':
            print(json.dumps(speed(args.root, args.samples)))
        else:
            print(json.dumps(start(makers[args.child], args.root)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'data'
        generate(root, args.images)
        time.sleep(2.5)  # files that changed just now are hashed at every start
        figures = {'images': args.images, **compare(root, args.samples)}
    text = json.dumps(figures, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + '\n')


if __name__ == '__main__':
    main()
