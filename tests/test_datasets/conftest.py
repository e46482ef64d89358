"""A tiny hand-made data set in REFER layout, to be damaged by the tests."""

import copy
import json
import pickle
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from mmseg_aml import command_line


def sentence(sent_id, text):
    return {'sent_id': sent_id, 'sent': text.lower(), 'raw': text, 'tokens': text.lower().split()}


def ref(ref_id, ann_id, image_id, split, sentences, **extra):
    return {
        'ref_id': ref_id,
        'ann_id': ann_id,
        'image_id': image_id,
        'category_id': 1,
        'split': split,
        'file_name': f'{image_id}_{ann_id}.jpg',  # as in RefCOCO: not a file
        'sent_ids': [s['sent_id'] for s in sentences],
        'sentences': sentences,
        **extra,
    }


def annotation(ann_id, image_id, segmentation):
    return {'id': ann_id, 'image_id': image_id, 'category_id': 1, 'segmentation': segmentation}


SQUARE = [[2, 2, 8, 2, 8, 8, 2, 8]]
TWO_PARTS = [[0, 0, 6, 0, 6, 6, 0, 6], [3.25, 3.75, 9, 3.75, 9, 9, 3.25, 9]]
# 10 x 20, columns first: 20 zeros, 5 ones, 175 zeros = rows 0-4 of column 2
RLE = {'size': [10, 20], 'counts': [20, 5, 175]}

REFS = [
    ref(10, 100, 1, 'train', [sentence(0, 'Red box'), sentence(1, 'the Box'), sentence(2, 'left')]),
    ref(11, 200, 2, 'train', [sentence(3, 'two parts')]),
    ref(12, 101, 1, 'train', [sentence(4, 'thin line'), sentence(5, 'a small LINE')]),
    ref(13, 300, 3, 'val', [sentence(6, 'only one')]),
]
INSTANCES = {
    'images': [
        {'id': i, 'file_name': f'COCO_train2014_{i:012d}.jpg', 'height': 10, 'width': 20}
        for i in (1, 2, 3)
    ],
    'annotations': [
        annotation(100, 1, SQUARE),
        annotation(101, 1, RLE),
        annotation(200, 2, TWO_PARTS),
        annotation(300, 3, SQUARE),
        annotation(999, 3, []),  # used by no ref
    ],
    'categories': [{'id': 1, 'name': 'thing'}],
}


class ReferFolder:
    """``refs`` and ``instances`` may be edited, then ``write()`` puts them on disk."""

    def __init__(self, root):
        self.root = root
        self.refs = copy.deepcopy(REFS)
        self.instances = copy.deepcopy(INSTANCES)
        self.images = root / 'images/train2014'

    def write(self, dataset='refcoco', name='refs(unc).p'):
        folder = self.root / dataset
        folder.mkdir(parents=True, exist_ok=True)
        if name.endswith('.p'):
            (folder / name).write_bytes(pickle.dumps(self.refs, protocol=2))
        else:
            (folder / name).write_text(json.dumps(self.refs))
        (folder / 'instances.json').write_text(json.dumps(self.instances))
        self.images.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for record in self.instances.get('images', []):
            shape = (record.get('height', 10), record['width'], 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(self.images / record['file_name'])
        return self.root


@pytest.fixture
def refer(tmp_path, monkeypatch) -> ReferFolder:
    monkeypatch.setenv('MMSEG_AML_CACHE', str(tmp_path / 'cache'))
    return ReferFolder(tmp_path / 'data')


@pytest.fixture(scope='session')
def mini(shared, tmp_path_factory):
    """minirefcoco with its index built outside the shared folder."""
    root = tmp_path_factory.mktemp('minirefcoco')
    for name in ('refcoco', 'template', 'images'):
        folder = root / name
        if name == 'images':
            folder.symlink_to(shared / 'data/minirefcoco/images')
            continue
        folder.mkdir()
        for path in (shared / 'data/minirefcoco' / name).iterdir():
            if not path.name.startswith('.'):
                (folder / path.name).symlink_to(path)
    return root


@pytest.fixture
def run_tool(root, monkeypatch, capsys):
    """Run a script of ``tools/`` in this process; returns (exit code, stdout + stderr)."""

    def run(path, *args):
        monkeypatch.setattr(sys, 'argv', [path, *map(str, args)])
        main = runpy.run_path(str(root / 'tools' / path))['main']
        code: object = 0
        try:
            command_line.run(main)
        except SystemExit as left:
            code = left.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run
