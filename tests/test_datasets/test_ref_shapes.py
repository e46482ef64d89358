"""RefShapes: what a sentence says is proved on the scene, from the files alone."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import AutoTokenizer

from mmseg_aml.datasets.expressions import logic
from mmseg_aml.datasets.expressions.logic import Beside, Nearest, Ranked, Within, evaluate
from mmseg_aml.datasets.ref_shapes import drawing, export_ref_shapes, language
from mmseg_aml.datasets.ref_shapes.scene import HELD_OUT, Is, Scene, Shape, sample_scene

COUNTS = dict(train=12, val=4, testA=4, testB=8)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'shapes'
    export_ref_shapes(out, COUNTS, size=(112, 96), seed=5)
    return out


@pytest.fixture(scope='module')
def tables(exported) -> tuple[list[dict], dict]:
    refs = pickle.loads((exported / 'refshapes/refs(unc).p').read_bytes())
    return refs, json.loads((exported / 'refshapes/instances.json').read_text())


def scenes_of(instances: dict) -> dict[int, tuple[Scene, list[int]]]:
    """Image id -> its scene and the annotation ids of the scene's shapes."""
    found = {}
    for image in instances['images']:
        rows = [a for a in instances['annotations'] if a['image_id'] == image['id']]
        shapes = tuple(Shape(**a['scene']) for a in rows)
        found[image['id']] = (
            Scene(image['width'], image['height'], shapes),
            [a['id'] for a in rows],
        )
    return found


def scene(*rows: tuple[str, str, float, float, float]) -> Scene:
    """A 100 x 100 scene of (shape, color, x, y, radius)."""
    shapes = [
        Shape(i, s, c, 'plain', 'small', x, y, r, 0) for i, (s, c, x, y, r) in enumerate(rows)
    ]
    return Scene(100, 100, tuple(shapes))


ROW = scene(
    ('circle', 'red', 10, 50, 8),
    ('circle', 'blue', 40, 50, 8),
    ('circle', 'red', 70, 50, 12),
    ('star', 'red', 73, 10, 8),
)


@pytest.mark.parametrize(
    ('form', 'expected'),
    [
        (Is(), {0, 1, 2, 3}),
        (Is('circle', 'red'), {0, 2}),
        (Is('heart'), set()),
        (Within(Is('circle'), 'left'), {0, 1}),
        (Within(Is(), 'top right'), {3}),
        (Within(Is(), 'center'), {1}),
        (Ranked(Is('circle'), 'left'), {0}),
        (Ranked(Is('circle'), 'left', 2), {1}),
        (Ranked(Is('circle'), 'right', 3), {0}),
        (Ranked(Is(), 'top'), {3}),
        (Ranked(Is('circle'), 'largest'), {2}),
        (Beside(Is('circle'), 'left of', Is('circle', 'blue')), {0}),
        (Beside(Is(), 'below', Is('star')), {1, 2}),
        (Beside(Is(), 'below', Is('circle')), set()),  # three anchors: not one
        (Beside(Is(), 'above', Ranked(Is('circle'), 'right')), {3}),
        (Nearest(Is('circle'), Is('star')), {2}),
        (Nearest(Is(), Is('star')), {2}),  # never the anchor itself
    ],
)
def test_evaluate(form, expected):
    assert evaluate(form, ROW) == expected
    assert logic.form_from_dict(logic.form_to_dict(form), Is) == form


def test_close_calls_are_not_clear():
    tie = scene(('circle', 'red', 30, 30, 8), ('circle', 'red', 33, 70, 8))
    assert evaluate(Ranked(Is(), 'left'), tie) == {0}
    assert not logic.refers_clearly(Ranked(Is(), 'left'), [tie], 0)
    assert logic.refers_clearly(Ranked(Is(), 'top'), [tie], 0)
    border = scene(('circle', 'red', 48, 50, 8), ('star', 'red', 80, 50, 8))
    assert evaluate(Within(Is('circle'), 'left'), border) == {0}
    assert not logic.refers_clearly(Within(Is('circle'), 'left'), [border], 0)


def test_every_stored_sentence_refers_to_its_target_alone(tables):
    refs, instances = tables
    scenes = scenes_of(instances)
    kinds = set()
    for ref in refs:
        the_scene, ann_ids = scenes[ref['image_id']]
        assert ref['sent_ids'] == [s['sent_id'] for s in ref['sentences']]
        assert len({s['sent'] for s in ref['sentences']}) == len(ref['sentences']) >= 2
        for sentence in ref['sentences']:
            form = logic.form_from_dict(sentence['form'], Is)
            found = [ann_ids[i] for i in evaluate(form, the_scene)]
            assert found == [ref['ann_id']]
            assert logic.refers_clearly(form, [the_scene], ann_ids.index(ref['ann_id']))
            assert sentence['tokens'] == sentence['sent'].split()
            kinds.add(sentence['kind'])
    assert kinds == {'attribute', 'position', 'relation'}


def test_places_and_relations_are_never_redundant(tables):
    refs, instances = tables
    scenes = scenes_of(instances)
    for ref in refs:
        for sentence in ref['sentences']:
            form = logic.form_from_dict(sentence['form'], Is)
            if not isinstance(form, Is):
                assert len(evaluate(form.of, scenes[ref['image_id']][0])) > 1


def test_a_picture_has_several_targets_and_distractors(tables):
    refs, instances = tables
    for image in instances['images']:
        targets = [r['ann_id'] for r in refs if r['image_id'] == image['id']]
        objects = sum(a['image_id'] == image['id'] for a in instances['annotations'])
        assert 2 <= len(set(targets)) == len(targets) <= 4
        assert 3 <= objects <= 10


def test_splits_are_disjoint_and_testb_holds_out_pairs(tables, exported):
    refs, instances = tables
    assert {r['split'] for r in refs} == set(COUNTS)
    split_of = {r['image_id']: r['split'] for r in refs}
    assert all(split_of[r['image_id']] == r['split'] for r in refs)
    assert len(set(digests(exported / 'images').values())) == sum(COUNTS.values())
    pair = {a['id']: (a['scene']['color'], a['scene']['shape']) for a in instances['annotations']}
    for ref in refs:
        assert (pair[ref['ann_id']] in HELD_OUT) == (ref['split'] == 'testB')
    elsewhere = [a for a in instances['annotations'] if split_of[a['image_id']] != 'testB']
    assert not HELD_OUT & {pair[a['id']] for a in elsewhere}


def test_masks_agree_with_the_files(tables, exported):
    _, instances = tables
    for image in instances['images']:
        assert Image.open(exported / 'images' / image['file_name']).size == (112, 96)
        rows = [a for a in instances['annotations'] if a['image_id'] == image['id']]
        masks = np.stack([coco_mask.decode(a['segmentation']) for a in rows])
        assert masks.shape[1:] == (96, 112)
        assert masks.sum(0).max() == 1  # visible parts never overlap
        assert [int(m.sum()) for m in masks] == [a['area'] for a in rows]
        assert min(a['area'] for a in rows) > 0


@pytest.mark.parametrize('shape', ('circle', 'cross', 'heart', 'ring', 'star'))
def test_a_mask_lies_on_its_colour(shape):
    one = Scene(128, 128, (Shape(0, shape, 'red', 'plain', 'large', 60, 70, 25, 0.1),))
    picture, masks, shares = drawing.draw(one, np.random.default_rng(0))
    assert shares.tolist() == [1.0]
    inside = picture[masks[0]].mean(0)
    outside = picture[~masks[0]].mean(0)
    assert inside[0] > 180 and inside[1] < 70
    assert np.ptp(outside) < 60
    y, x = np.nonzero(masks[0])
    assert abs(x.mean() - 60) < 2 and abs(y.mean() - 70) < 5


def test_same_seed_same_bytes_on_any_number_of_workers(exported, tmp_path):
    export_ref_shapes(tmp_path / 'two', COUNTS, size=(112, 96), seed=5, workers=2)
    assert digests(tmp_path / 'two') == digests(exported)
    export_ref_shapes(tmp_path / 'other', dict(train=1), size=(112, 96), seed=6)
    name = 'images/RefShapes_train_000000.png'
    assert digests(tmp_path / 'other')[name] != digests(exported)[name]


def test_no_word_is_unknown_to_the_tiny_tokenizer(root):
    tokenizer = AutoTokenizer.from_pretrained(root / 'mmseg_aml/assets/tiny_tokenizer')
    sentences = []
    for seed in range(40):
        rng = random.Random(seed)
        one = sample_scene(rng, 128, 128, held_out=seed % 2 == 1)
        for shape in one.shapes:
            sentences += [text for text, _ in language.refer(one, shape.id, rng, count=6)]
    for ids, text in zip(tokenizer(sentences)['input_ids'], sentences):
        # Whole words: two markers and one token each.
        assert tokenizer.unk_token_id not in ids and len(ids) == len(text.split()) + 2, text
    ascii_text = ''.join(map(chr, range(32, 127))) + ' Zyzzyva qoph-42'
    assert tokenizer.unk_token_id not in tokenizer(ascii_text)['input_ids']
    assert [tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id] == [0, 2, 3]


def test_refuses_to_replace_files(exported, tmp_path):
    before = digests(exported)
    with pytest.raises(FileExistsError, match='not empty.*--overwrite'):
        export_ref_shapes(exported, dict(train=1))
    assert digests(exported) == before
    (tmp_path / 'thesis').mkdir()
    (tmp_path / 'thesis/chapter.txt').write_text('x')
    with pytest.raises(FileExistsError, match='no RefShapes'):
        export_ref_shapes(tmp_path / 'thesis', dict(train=1), overwrite=True)
    assert (tmp_path / 'thesis/chapter.txt').exists()


def test_overwrite_replaces_and_failure_leaves_nothing(tmp_path, monkeypatch):
    out = tmp_path / 'shapes'
    summary = export_ref_shapes(out, dict(train=2), size=(64, 64))
    assert summary['train']['images'] == 2
    export_ref_shapes(out, dict(val=1), size=(64, 64), overwrite=True)
    kept = digests(out)
    assert [n for n in kept if n.endswith('png')] == ['images/RefShapes_val_000000.png']

    def full_disk(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        export_ref_shapes(out, dict(train=2), overwrite=True)
    assert digests(out) == kept and [p.name for p in tmp_path.iterdir()] == ['shapes']


@pytest.mark.parametrize(
    ('counts', 'size', 'message'),
    [
        (dict(test=3), (128, 128), 'test'),
        (dict(train=-1), (128, 128), '-1'),
        (dict(train=0), (128, 128), 'pictures per split'),
        (dict(train=1), (128, 40), '128x40 is too small'),
    ],
)
def test_bad_arguments(counts, size, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_ref_shapes(tmp_path / 'x', counts, size=size)


def test_command_line(root, tmp_path):
    tool = [sys.executable, str(root / 'tools/dataset_converters/ref_shapes.py')]
    (tmp_path / 'file').write_text('')
    bad = subprocess.run(
        [*tool, str(tmp_path / 'file')],
        capture_output=True,
        text=True,
        env={'PYTHONPATH': str(root)},
    )
    assert bad.returncode == 2 and 'file' in bad.stderr
    assert 'Traceback' not in bad.stderr
