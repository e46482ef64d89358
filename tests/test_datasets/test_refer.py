"""REFER files: parity with a plain reading, and every way in which they can be wrong."""

import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from mmseg_aml.datasets.refer import ReferError, ReferIndex, decode_masks, find_refer_files
from mmseg_aml.datasets.refer_files import read_pickle
from mmseg_aml.datasets.refer_index import pack_points


@pytest.mark.parametrize('dataset', ['refcoco', 'template'])
def test_equals_plain_reading_on_real_data(mini, dataset):
    index = ReferIndex.open(mini, dataset)
    refs = pickle.loads((mini / dataset / 'refs(unc).p').read_bytes())
    instances = json.loads((mini / dataset / 'instances.json').read_text())
    images = {image['id']: image for image in instances['images']}
    annotations = {annotation['id']: annotation for annotation in instances['annotations']}
    assert sum(index.splits.values()) == len(refs)
    for row, plain in enumerate(refs):
        ref, image = index.ref(row), images[plain['image_id']]
        assert (ref.ref_id, ref.split, ref.ann_ids) == (
            plain['ref_id'],
            plain['split'],
            [plain['ann_id']],
        )
        assert vars(ref.image) == {
            'image_id': image['id'],
            'file_name': image['file_name'],
            'height': image['height'],
            'width': image['width'],
        }
        assert [vars(s) for s in ref.sentences] == [
            {key: s[key] for key in ('sent_id', 'sent', 'raw')} for s in plain['sentences']
        ]
        expected = annotations[plain['ann_id']]['segmentation']
        (polygons,) = index.segmentations(row)
        assert [polygon.tolist() for polygon in polygons] == expected
        if row % 10 == 0:
            rles = coco_mask.frPyObjects(expected, image['height'], image['width'])
            union = coco_mask.decode(rles).any(2)
            mask = decode_masks([polygons], image['height'], image['width'])
            np.testing.assert_array_equal(mask, union)


def test_union_where_polygons_overlap(mini):
    index = ReferIndex.open(mini, 'refcoco')
    for ref_id in (478, 491, 578, 606):
        row = int(np.flatnonzero(index.arrays['ref_id'] == ref_id)[0])
        image = index.ref(row).image
        polygons = [p.tolist() for p in index.segmentations(row)[0]]
        layers = coco_mask.decode(coco_mask.frPyObjects(polygons, image.height, image.width))
        mask = decode_masks(index.segmentations(row), image.height, image.width)
        assert layers.sum(2).max() == 2 and mask.max() == 1
        np.testing.assert_array_equal(mask, layers.max(2))


def test_rle_forms_agree(refer):
    compressed = coco_mask.frPyObjects({'size': [10, 20], 'counts': [20, 5, 175]}, 10, 20)
    text = {**compressed, 'counts': compressed['counts'].decode()}
    expected = np.zeros((10, 20), np.uint8)
    expected[:5, 2] = 1
    # COCO's dict, ReferIt's list of dicts, counts as str and as list
    for segmentation in (text, [text], {'size': [10, 20], 'counts': [20, 5, 175]}):
        refer.instances['annotations'][1]['segmentation'] = segmentation
        index = ReferIndex.open(refer.write(), 'refcoco')
        np.testing.assert_array_equal(decode_masks(index.segmentations(2), 10, 20), expected)


@pytest.mark.parametrize(
    'dataset, name, split_by',
    [
        ('refcoco', 'refs(unc).p', None),
        ('refcoco+', 'refs(unc).p', None),
        ('refcocog', 'refs(umd).p', None),
        ('refcocog', 'refs(google).p', 'google'),
        ('refclef', 'refs(berkeley).p', 'berkeley'),
        ('grefcoco', 'grefs(unc).json', None),
        ('my-own', 'refs(me).json', None),
    ],
)
def test_layouts(refer, dataset, name, split_by):
    index = ReferIndex.open(refer.write(dataset, name), dataset, split_by)
    assert index.splits == {'train': 3, 'val': 1}
    assert index.files.refs.name == name


def test_python2_pickle_and_bytes(tmp_path):
    # Written by Python 2: protocol 0, byte strings, a long
    (tmp_path / 'old.p').write_bytes(b"(lp0\n(dp1\nS'raw'\np2\nS'caf\\xe9'\np3\nsS'id'\nL5L\nsa.")
    assert read_pickle(tmp_path / 'old.p') == [{'raw': 'café', 'id': 5}]
    (tmp_path / 'bytes.p').write_bytes(pickle.dumps([b'\xff', {1, 2}], protocol=2))
    assert read_pickle(tmp_path / 'bytes.p') == [b'\xff', {1, 2}]


class Evil:
    def __reduce__(self):
        return os.system, ('touch /tmp/must-not-exist',)


@pytest.mark.parametrize(
    'value, name', [(Evil(), 'system'), (np.float64(1), 'numpy'), (open, 'io.open'), (eval, 'eval')]
)
def test_forbidden_globals(refer, value, name):
    refer.refs[0]['extra'] = value
    with pytest.raises(ReferError, match=rf'refs\(unc\)\.p.*{name}') as error:
        ReferIndex.open(refer.write(), 'refcoco')
    assert 'JSON' in str(error.value)


def test_damaged_files(refer):
    root = refer.write()
    path = root / 'refcoco/refs(unc).p'
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReferError, match=r'refs\(unc\)\.p is a damaged pickle'):
        ReferIndex.open(root, 'refcoco')
    refer.write()
    (root / 'refcoco/instances.json').write_text('{"images": [')
    with pytest.raises(ReferError, match='instances.json is not valid JSON'):
        ReferIndex.open(root, 'refcoco')


def test_missing_files_list_what_is_there(refer):
    root = refer.write('refcoco+')
    with pytest.raises(FileNotFoundError, match=r"'refcoco' in .*data sets there: refcoco\+"):
        find_refer_files(root, 'refcoco')
    with pytest.raises(FileNotFoundError, match=r'refs\(umd\).*values there: unc; files: inst'):
        find_refer_files(root, 'refcoco+', 'umd')
    (root / 'refcoco+/instances.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'instances.json is missing.*files: refs\(unc\).p'):
        find_refer_files(root, 'refcoco+')


def test_splits(refer):
    for record, split in zip(refer.refs, ('testAB', 'testBC', 'testA', 'val')):
        record['split'] = split
    index = ReferIndex.open(refer.write(), 'refcoco')
    assert index.rows('testA').tolist() == [0, 2]
    assert index.rows('testB').tolist() == [0, 1]
    assert index.rows('test').tolist() == [0, 1, 2]
    with pytest.raises(ReferError, match=r"no split 'train'.*testAB \(1 refs\).*val \(1 refs\)"):
        index.rows('train')


@pytest.mark.parametrize(
    'damage, message',
    [
        (lambda f: f.instances['images'].pop(0), r'instances.json lacks 1 image.*image id 1'),
        (lambda f: f.instances['annotations'].pop(0), r'lacks 1 annotation.*annotation id 100'),
        (lambda f: f.instances['annotations'][0].pop('segmentation'), 'annotation 100 has no mask'),
        (lambda f: f.instances['annotations'][0].update(segmentation=[]), '100 has no mask'),
        (lambda f: f.instances['annotations'][0].update(segmentation=[[1, 2, 3]]), '100.*odd'),
        (lambda f: f.instances['annotations'][0].update(image_id=2), '100 lies in another image'),
        (lambda f: f.instances['annotations'][1]['segmentation'].update(size=[9, 20]), '101: its'),
        (lambda f: f.instances['annotations'][1]['segmentation'].update(counts=[3]), '101: its'),
        (lambda f: f.instances.pop('images'), r'instances.json is not of.*`images`'),
        (lambda f: f.instances['images'][0].pop('height'), 'missing.*`height`.*images.0.'),
        (lambda f: f.refs[1].pop('sentences'), r"ref 11.*KeyError: 'sentences'"),
        (lambda f: f.refs[1].update(ann_id=-1), 'annotation id -1'),
        (lambda f: f.refs.append('x'), 'list of refs'),
    ],
)
def test_annotations_that_cannot_be_used(refer, damage, message):
    damage(refer)
    with pytest.raises(ReferError, match=message):
        ReferIndex.open(refer.write(), 'refcoco')


@settings(max_examples=50, deadline=None)
@given(st.lists(st.decimals(-1000, 10000, places=2).map(float)), st.booleans())
def test_points_survive_packing_bit_for_bit(points, fine):
    array = np.array(points + ([1 / 3] if fine else []))
    packed, scale = pack_points(array)
    np.testing.assert_array_equal(packed / scale, array)
    assert (packed.dtype.kind == 'f') == fine


def test_degenerate_polygon_adds_nothing():
    square = [2, 2, 8, 2, 8, 8, 2, 8]
    np.testing.assert_array_equal(
        decode_masks([[[0, 0, 9, 9], square]], 10, 10), decode_masks([[square]], 10, 10)
    )
    assert not decode_masks([[[0, 0, 9, 9]]], 10, 10).any()
    assert not decode_masks([], 1, 1).any()
