"""Sentences for COCO files: each is proved again from the files that were written."""

from __future__ import annotations

import functools
import json
import random

import numpy as np
import pytest
from PIL import Image

from mmseg_aml.datasets.coco_to_refer.convert import Source, convert_coco
from mmseg_aml.datasets.coco_to_refer.language import Called, Speaker, photo_kind
from mmseg_aml.datasets.coco_to_refer.photo import Photo, measure
from mmseg_aml.datasets.coco_to_refer.vocabulary import COCO_NAMES, Vocabulary
from mmseg_aml.datasets.expressions.logic import (
    Joined,
    Middle,
    NextTo,
    OfTwo,
    Ranked,
    Within,
    evaluate,
    form_from_dict,
    form_to_dict,
    refers_clearly,
)
from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError

CATEGORIES = ('person', 'dog', 'cat', 'couch', 'chair', 'umbrella', 'car', 'truck', 'widget')
VOCABULARY = Vocabulary(CATEGORIES)


def box(x, y, width, height):
    """One polygon."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def photo(*things, crowd=None, size=(400, 300)):
    """A photograph of (category, x, y, width, height); ids count from 1."""
    records = [(c, dict(id=i, segmentation=box(*b))) for i, (c, *b) in enumerate(things, 1)]
    if crowd:
        mask = dict(id=99, segmentation=box(*crowd[1:]), iscrowd=1)
        records.append((crowd[0], mask))
    return Photo(*size, [measure(a, c, *size) for c, a in records], VOCABULARY)


def clear(form, the_photo, target=1):
    return refers_clearly(form, the_photo.readings, target)


LEFT_DOG, RIGHT_DOG = ('dog', 30, 100, 80, 60), ('dog', 280, 100, 80, 60)
DOG, ANIMAL, PERSON = Called('dog'), Called('animal'), Called('person')


@pytest.mark.parametrize(
    ('form', 'things'),
    [
        (DOG, [LEFT_DOG, ('cat', 280, 100, 80, 60)]),
        (Within(DOG, 'left'), [LEFT_DOG, RIGHT_DOG]),
        (OfTwo(ANIMAL, 'left'), [LEFT_DOG, ('cat', 280, 100, 80, 60)]),
        (OfTwo(DOG, 'largest'), [('dog', 30, 50, 160, 120), RIGHT_DOG]),
        (Middle(DOG), [('dog', 160, 100, 70, 60), LEFT_DOG, RIGHT_DOG]),
        (Ranked(DOG, 'left', 2), [('dog', 120, 100, 40, 60), LEFT_DOG, RIGHT_DOG]),
        (NextTo(DOG, Called('cat')), [LEFT_DOG, RIGHT_DOG, ('cat', 112, 100, 60, 60)]),
        (Joined(DOG, 'on', Called('couch')), [LEFT_DOG, RIGHT_DOG, ('couch', 20, 90, 130, 150)]),
    ],
)
def test_forms(form, things):
    assert clear(form, photo(*things))
    assert not clear(form, photo(*things), target=2)
    assert form_from_dict(json.loads(json.dumps(form_to_dict(form))), Called) == form


@pytest.mark.parametrize(
    ('form', 'things', 'crowd'),
    [
        # near ties of place and size
        (OfTwo(DOG, 'left'), [('dog', 150, 40, 80, 60), ('dog', 158, 200, 80, 60)], None),
        (OfTwo(DOG, 'largest'), [('dog', 30, 100, 85, 65), RIGHT_DOG], None),
        (Within(DOG, 'left'), [('dog', 150, 100, 90, 60), RIGHT_DOG], None),
        # members of a crowd may stand anywhere in it
        (PERSON, [('person', 30, 100, 60, 120)], ('person', 200, 80, 190, 90)),
        (Ranked(PERSON, 'left'), [('person', 100, 100, 60, 120)], ('person', 20, 80, 300, 40)),
        # things that may be overlooked, or seen
        (PERSON, [('person', 30, 100, 60, 120), ('person', 300, 100, 9, 14)], None),
        # look-alikes: a van is a car or a truck
        (Called('car'), [('car', 30, 100, 100, 60), ('truck', 250, 100, 100, 60)], None),
        # the border may hide the larger part
        (OfTwo(DOG, 'largest'), [('dog', 30, 100, 110, 80), ('dog', 336, 100, 64, 90)], None),
    ],
)  # fmt: skip
def test_doubtful_references_are_not_clear(form, things, crowd):
    the_photo = photo(*things, crowd=crowd)
    assert evaluate(form, the_photo.readings[0]) == {1}
    assert not clear(form, the_photo)


def test_an_anchor_must_be_one_thing():
    cats = [('cat', 112, 100, 60, 60), ('cat', 160, 200, 60, 60)]
    assert not clear(NextTo(DOG, Called('cat')), photo(LEFT_DOG, RIGHT_DOG, *cats))


def test_the_middle_of_the_row_is_also_that_of_the_picture():
    row = [('dog', 100, 100, 40, 60), ('dog', 30, 100, 40, 60), ('dog', 170, 100, 40, 60)]
    assert evaluate(Ranked(DOG, 'left', 2), photo(*row).readings[0]) == {1}
    assert not clear(Middle(DOG), photo(*row))
    assert clear(Middle(DOG), photo(*row, size=(240, 300)))


def test_a_crowd_at_the_other_end_does_no_harm():
    crowd = ('person', 250, 80, 140, 60)
    assert clear(Ranked(PERSON, 'left'), photo(('person', 30, 100, 60, 120), crowd=crowd))


def test_nobody_counts_ten():
    row = photo(*[('dog', 38 * i + 5, 100, 28, 60) for i in range(10)])
    assert Speaker(row, random.Random(0)).refer(1, 3) == []


def test_piles_are_not_labelled_one_by_one():
    bananas = Vocabulary(['banana'])

    def sentences(count):
        records = [
            dict(id=i, segmentation=box(100 * i - 90, 50, 60, 80)) for i in range(1, count + 1)
        ]
        measured = [measure(record, 'banana', 400, 300) for record in records]
        return Speaker(Photo(400, 300, measured, bananas), random.Random(0)).refer(1, 3)

    assert sentences(2) and not sentences(3)


def test_every_category_of_coco_has_a_noun_and_every_look_alike_exists():
    assert len(COCO_NAMES) == 80
    every = Vocabulary(sorted(COCO_NAMES))
    for noun in every.nouns.values():
        assert noun.sure | noun.perhaps <= COCO_NAMES and not noun.sure & noun.perhaps


def test_own_words():
    own = {
        'Car_Door': dict(synonyms=['door'], hypernyms=['part'], lookalikes=['hood']),
        'hood': dict(hypernyms=['part']),
    }
    vocabulary = Vocabulary(['Car_Door', 'hood'], own)
    assert vocabulary.nouns['car door'].words == ('car door', 'door')
    assert vocabulary.nouns['part'].sure == {'Car_Door', 'hood'}
    assert vocabulary.of('hood', False) == {'hood', 'part'}
    assert vocabulary.of('hood', True) == {'hood', 'part', 'car door'}
    with pytest.raises(ValueError, match="'wheel' is no category; categories: Car_Door"):
        Vocabulary(['Car_Door'], {'wheel': {}})
    with pytest.raises(ValueError, match="'Car_Door': expected lists synonyms, hypernyms"):
        Vocabulary(['Car_Door'], {'Car_Door': dict(synonym=['x'])})


def scattered(seed, count=6):
    """Instances of a random picture of 160 x 120 pixels."""
    rng = random.Random(seed)
    return [
        (rng.randrange(1, len(CATEGORIES) + 1), box(rng.uniform(0, 110), rng.uniform(0, 80),
                                                   rng.uniform(5, 60), rng.uniform(5, 50)))
        for _ in range(count)
    ]  # fmt: skip


@pytest.fixture
def coco(tmp_path):
    """Two COCO files with their images: 12 and 8 pictures."""
    sources = []
    for number, ids in enumerate((range(1, 13), range(21, 29))):
        folder = tmp_path / f'photos {number}'
        folder.mkdir()
        images, annotations = [], []
        for image_id in ids:
            Image.new('RGB', (160, 120), (image_id, 0, 0)).save(folder / f'{image_id}.png')
            images.append(dict(id=image_id, file_name=f'{image_id}.png', width=160, height=120))
            for k, (category, polygons) in enumerate(scattered(image_id)):
                annotations.append(
                    dict(id=100 * image_id + k, image_id=image_id, category_id=category)
                    | dict(segmentation=polygons, iscrowd=int(k == 5))
                )
        categories = [dict(id=i, name=name) for i, name in enumerate(CATEGORIES, 1)]
        file = tmp_path / f'instances_{number}.json'
        file.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )
        sources.append(Source(file, folder))
    return sources


SPLITS = dict(train=list(range(1, 13)), val=[21, 22, 23], test=[24, 25, 26, 27])


def test_every_written_sentence_is_proved_from_the_files(coco, tmp_path):
    out = tmp_path / 'data'
    statistics = convert_coco(coco, out, 'own', splits=SPLITS)
    refs = json.loads((out / 'own/refs(own).json').read_text())
    instances = json.loads((out / 'own/instances.json').read_text())
    assert len(instances['images']) == 19  # image 28 is in no split
    images = {image['id']: image for image in instances['images']}
    names = {category['id']: category['name'] for category in instances['categories']}
    photos = {}
    for image_id in images:
        rows = [a for a in instances['annotations'] if a['image_id'] == image_id]
        measured = [measure(a, names[a['category_id']], 160, 120) for a in rows]
        photos[image_id] = Photo(160, 120, measured, VOCABULARY)
    ids = []
    for ref in refs:
        assert ref['split'] == next(
            s for s, members in SPLITS.items() if ref['image_id'] in members
        )
        for sentence in ref['sentences']:
            form = form_from_dict(sentence['form'], Called)
            assert refers_clearly(form, photos[ref['image_id']].readings, ref['ann_id'])
            assert sentence['source'] == 'coco_to_refer' and sentence['kind'] == photo_kind(form)
            assert sentence['sent'] == ' '.join(sentence['tokens']) == sentence['sent'].lower()
            ids.append(sentence['sent_id'])
    assert ids == list(range(len(ids))) and len(ids) > 60
    assert set(statistics.kinds) == {'category', 'position', 'ordinal', 'size', 'relation'}
    assert sum(statistics.objects.values()) == 19 * 6
    data = RefCOCODataset(str(out), 'own', 'val', test_mode=True)
    pixels = np.asarray(Image.open(data[0]['img_path']))
    assert pixels[0, 0, 0] == data[0]['image_id'] in SPLITS['val']


def test_same_seed_same_files_whatever_else_there_is(coco, tmp_path):
    for name, options in dict(a={}, b={}, other=dict(seed=1)).items():
        convert_coco(coco, tmp_path / name, 'own', splits=SPLITS, **options)
    text = {n: (tmp_path / n / 'own/refs(own).json').read_text() for n in ('a', 'b', 'other')}
    assert text['a'] == text['b'] != text['other']
    convert_coco(coco[1:], tmp_path / 'alone', 'own', splits=SPLITS)
    sentences = {
        name: {
            ref['ann_id']: [s['sent'] for s in ref['sentences']]
            for ref in json.loads((tmp_path / name / 'own/refs(own).json').read_text())
            if ref['image_id'] > 20
        }
        for name in ('a', 'alone')
    }
    assert sentences['a'] == sentences['alone'] != {}


def edited(source, change):
    data = json.loads(source.instances.read_text())
    change(data)
    source.instances.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: d['images'].append(d['images'][0]), 'image 21 is there twice, or in another'),
        (lambda d: d['annotations'].append(d['annotations'][1]), 'annotation 2101 is there twice'),
        (lambda d: d['annotations'][0].update(image_id=77), '2100 lies in image 77, which is not'),
        (lambda d: d['annotations'][0].update(category_id=77), 'category_id 77, which is no'),
        (
            lambda d: d['categories'][0].update(name='human'),
            "1 is 'human', but 'person' in another",
        ),
        (lambda d: d.pop('categories'), "not of COCO form .KeyError: 'categories'"),
        (
            lambda d: d['annotations'][0].update(segmentation=dict(size=[120, 160], counts='%%')),
            'the mask of annotation 2100 cannot be decoded|the mask of annotation 2100 is',
        ),
    ],
)
def test_bad_files_name_the_id(coco, tmp_path, change, message):
    edited(coco[1], change)
    with pytest.raises(ReferError, match=message):
        convert_coco(coco, tmp_path / 'data', 'own', splits=SPLITS)
    assert not (tmp_path / 'data/own').exists()


def test_tool(coco, tmp_path, run_tool):
    tool = functools.partial(run_tool, 'dataset_converters/coco_to_refer.py')
    source, out = coco[0], tmp_path / 'data'
    arguments = [source.instances, '--images', source.images, '--out', out, '--dataset', 'own']
    code, output = tool(*arguments, '--shares', 'train=2', 'val=1')
    assert code == 0 and 'sentences by kind: ' in output and 'train: 8 images' in output
    assert (out / 'images').resolve() == source.images
    code, output = tool(*arguments)
    assert code == 2 and 'is there already; move it away first' in output
    bad = tmp_path / 'splits.json'
    bad.write_text('{"splits": {"train": [1, 2], "val": [2]}}')
    code, output = tool(*arguments, '--splits', bad)
    assert code == 2 and 'splits.json: image 2 is in train and in val' in output
    code, output = tool(source.instances, *arguments)
    assert code == 2 and '2 file(s) but 1 --images' in output
    code, output = tool(*arguments, '--shares', 'train')
    assert code == 2 and '--shares takes SPLIT=SHARE' in output
