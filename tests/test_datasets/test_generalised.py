"""Sentences about several shapes or none, and the published sample of gRefCOCO."""

import json

import numpy as np
import pytest
import torch

from mmseg_aml.datasets.expressions.logic import form_from_dict
from mmseg_aml.datasets.grefcoco import GRefCOCODataset
from mmseg_aml.datasets.ref_shapes import add_generalised, export_ref_shapes
from mmseg_aml.datasets.ref_shapes.generalised import meant, plural
from mmseg_aml.datasets.ref_shapes.language import FirstWords
from mmseg_aml.datasets.ref_shapes.scene import Is, Scene, Shape
from mmseg_aml.evaluation.masks import ground_truth
from mmseg_aml.evaluation.protocols import get_protocol

COUNTS = {'train': 12, 'val': 8}


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    root = tmp_path_factory.mktemp('generalised') / 'shapes'
    export_ref_shapes(root, COUNTS, size=(64, 64), most_shapes=4, generalised=True)
    return root


@pytest.fixture(scope='module')
def refs(export):
    return json.loads((export / 'grefshapes/grefs(unc).json').read_text())


def test_every_sentence_means_its_targets(export, refs):
    tables = json.loads((export / 'grefshapes/instances.json').read_text())
    images = {image['id']: image for image in tables['images']}
    shapes = {number: [] for number in images}
    for annotation in tables['annotations']:
        shapes[annotation['image_id']].append(annotation)
    kinds = {kind: set() for kind in ('single', 'group', 'pair', 'none')}
    for ref in refs:
        (sentence,) = ref['sentences']
        own, image = shapes[ref['image_id']], images[ref['image_id']]
        things = tuple(Shape(**annotation['scene']) for annotation in own)
        forms = [form_from_dict(form, Is) for form in sentence['forms']]
        ids = meant(forms, Scene(image['width'], image['height'], things))
        assert ids is not None, sentence
        assert [own[i]['id'] for i in sorted(ids)] == [i for i in ref['ann_id'] if i != -1]
        kinds[sentence['kind']].add(len(ids))
    assert kinds['single'] == {1} and kinds['pair'] == {2} and kinds['none'] == {0}
    assert kinds['group'] and min(kinds['group']) >= 2


def test_the_ordinary_reader_takes_it(export, refs):
    counts = GRefCOCODataset(str(export), 'val', dataset='grefshapes').target_counts()
    val = [ref for ref in refs if ref['split'] == 'val']
    assert sum(counts.values()) == len(val) and min(counts.values()) > 0
    assert counts['no_target'] == sum(ref['ann_id'] == [-1] for ref in val)
    texts = [(ref['image_id'], ref['sentences'][0]['raw']) for ref in refs]
    assert len(set(texts)) == len(texts)


def test_same_seed_same_file(export, tmp_path):
    before = (export / 'grefshapes/grefs(unc).json').read_bytes()
    add_generalised(export)
    assert (export / 'grefshapes/grefs(unc).json').read_bytes() == before
    with pytest.raises(FileNotFoundError, match='instances.json'):
        add_generalised(tmp_path)


def test_plurals():
    words = FirstWords()
    said = [plural(Is(shape=shape, color='red'), words, True) for shape in ('cross', 'star')]
    assert said == ['red crosses', 'red stars']


@pytest.mark.parametrize('split', ['train', 'val'])
def test_published_sample_of_grefcoco(reference, tmp_path, split):
    folder = reference / 'rela/grefcoco_sample'
    (tmp_path / 'grefcoco').mkdir()
    (tmp_path / 'images/train2014').mkdir(parents=True)
    for name in ('grefs(unc).json', 'instances.json'):
        (tmp_path / 'grefcoco' / name).write_bytes((folder / name).read_bytes())
    expected = json.loads((folder / 'expected.json').read_text())
    expected = [record for record in expected if record['split'] == split]
    dataset = GRefCOCODataset(str(tmp_path), split)
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert len(items) == len(expected)
    protocol = get_protocol(dict(name='rela-96', base='rela-480', resolution=96))
    for item, record in zip(items, expected):
        (found,) = item['expressions']
        assert item['image_id'] == record['image_id']
        assert found['expression'] == record['text'] and found['sent_id'] == record['sent_id']
        assert (not found['ann_ids']) == record['empty']
        truth = torch.zeros(1, item['height'], item['width'], dtype=torch.uint8)
        mask = ground_truth(truth, [found['segmentation']], protocol)
        assert int(np.asarray(mask).sum()) == record['mask_pixels_at_96x96'], record
