"""One's own data: every form becomes the same data set, and the check keeps its promise."""

from __future__ import annotations

import base64
import functools
import io
import json
import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmseg_aml.datasets import check
from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError, ReferIndex, decode_masks
from mmseg_aml.datasets.splits import draw_splits
from mmseg_aml.datasets.tables import read_table


@pytest.fixture
def tool(run_tool):
    return functools.partial(run_tool, 'dataset_converters/prepare_data.py')


BOXES = {'a.png': (2, 3, 8, 9), 'b.png': (10, 1, 19, 8), 'c.png': (0, 0, 5, 5)}
ROWS = [
    ('a.png', 'Red box, on the left', 'train'),
    ('b.png', 'the box', 'train'),
    ('a.png', 'a box', 'train'),
    ('c.png', 'Käse im Eck', 'val'),
]


def polygon(name):
    x0, y0, x1, y1 = BOXES[name]
    return [x0, y0, x1, y0, x1, y1, x0, y1]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Three pictures of 20 x 10 pixels with one object each, in every form."""
    monkeypatch.setenv('MMSEG_AML_CACHE', str(tmp_path / 'cache'))
    for folder in ('photos', 'masks', 'labelme'):
        (tmp_path / folder).mkdir()
    images, annotations = [], []
    for number, name in enumerate(BOXES, 1):
        pixels = np.random.default_rng(number).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'photos' / name)
        mask = decode_masks([[polygon(name)]], 10, 20)
        Image.fromarray(mask * 255).save(tmp_path / 'masks' / name)
        images.append(dict(id=number, file_name=name, height=10, width=20))
        annotations.append(dict(id=10 * number, image_id=number, segmentation=[polygon(name)]))
        points = np.reshape(polygon(name), (-1, 2)).tolist()
        sentences = [sentence for image, sentence, _ in ROWS if image == name]
        shape = dict(label='box', points=points, shape_type='polygon', group_id=None)
        shape['description'] = '\n'.join(sentences)
        record = dict(imagePath=f'..\\photos\\{name}', imageHeight=10, imageWidth=20)
        file = tmp_path / 'labelme' / f'{name}.json'
        file.write_text(json.dumps(record | dict(shapes=[shape])), encoding='utf-8')
    (tmp_path / 'coco.json').write_text(json.dumps(dict(images=images, annotations=annotations)))
    table = ['image;mask;sentence;split', *(f'{i};{i};{s};{p}' for i, s, p in ROWS)]
    (tmp_path / 'rows.csv').write_text('\ufeff' + '\n'.join(table), encoding='utf-8')
    lines = [dict(image_id='abc'.index(i[0]) + 1, sentence=s, split=p) for i, s, p in ROWS]
    (tmp_path / 'rows.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (tmp_path / 'splits.json').write_text('{"train": ["a.png", "b.png"], "val": ["c.png"]}')
    return tmp_path


FORMS = {
    'coco': ['rows.jsonl', '--instances', 'coco.json'],
    'coco by name': ['rows.csv', '--instances', 'coco.json'],
    'masks': ['rows.csv', '--masks', 'masks'],
    'labelme': ['labelme', '--splits', 'splits.json'],
}


def arguments(folder, form):
    return [part if part.startswith('--') else folder / part for part in FORMS[form]]


def convert(tool, folder, form, *extra):
    target = ['--images', folder / 'photos', '--to', folder / 'data', '--dataset', 'mine']
    return tool('convert', *arguments(folder, form), *target, *extra)


@pytest.mark.parametrize('form', FORMS)
def test_every_form_gives_the_same_data(mine, tool, form):
    code, output = convert(tool, mine, form)
    assert code == 0 and 'refs(own).json' in output, output
    found = []
    for split in ('train', 'val'):
        data = RefCOCODataset(str(mine / 'data'), 'mine', split, text='raw', test_mode=True)
        for item in map(data.get_data_info, range(len(data))):
            name = item['img_path'].rsplit('/', 1)[1]
            for expression in item['expressions']:
                mask = decode_masks(expression['segmentation'], 10, 20)
                assert (mask == decode_masks([[polygon(name)]], 10, 20)).all()
                found.append((name, expression['expression'], split))
    assert sorted(found) == sorted(ROWS)
    code, output = tool('check', mine / 'data')
    assert code == 0 and 'ok   mine (own): 3 images, 3 refs, 4 expressions' in output, output
    assert tool('check', mine / 'data/mine')[0] == 0  # the folder of one data set
    code, output = convert(tool, mine, form)
    assert code == 2 and 'is there already; move it away first' in output


def test_splits_are_drawn_where_nothing_tells_them(mine, tool):
    target = ['--images', mine / 'photos', '--to', mine / 'data', '--dataset', 'mine']
    assert tool('convert', mine / 'labelme', *target)[0] == 0
    assert sorted(ReferIndex.open(mine / 'data', 'mine').splits) == ['train', 'val']
    drawn = draw_splits(range(6), dict(train=0.9, val=0.05, test=0.05, none=0), seed=0)
    assert {name: len(ids) for name, ids in drawn.items()} == dict(train=4, val=1, test=1)
    assert sorted(i for ids in drawn.values() for i in ids) == list(range(6))


def test_labelme_shapes(mine, tool):
    part = io.BytesIO()
    Image.fromarray(np.full((2, 3), 255, np.uint8)).save(part, 'PNG')
    shapes = [
        dict(label='two parts', points=[[1, 1], [4, 4]], shape_type='rectangle', group_id=7),
        dict(label='x', points=[[15, 5], [15, 8]], shape_type='circle', group_id=7),
        dict(label='pasted', points=[[2, 3], [4, 4]], shape_type='mask')
        | dict(mask=base64.b64encode(part.getvalue()).decode()),
    ]
    file = mine / 'labelme/a.png.json'
    file.write_text(json.dumps(dict(imagePath='a.png', shapes=shapes)))
    assert convert(tool, mine, 'labelme')[0] == 0
    index = ReferIndex.open(mine / 'data', 'mine')
    masks = [decode_masks(index.segmentations(row), 10, 20) for row in (0, 1)]
    assert [index.ref(row).sentences[0].sent for row in (0, 1)] == ['two parts', 'pasted']
    assert masks[0][2, 2] and masks[0][5, 15] and not masks[0][5, 8]
    assert np.argwhere(masks[1]).tolist() == [[y, x] for y in (3, 4) for x in (2, 3, 4)]


def test_instance_numbers_in_one_mask(mine, tool):
    numbers = np.zeros((10, 20), np.uint8)
    numbers[:4, :4], numbers[5:, 10:] = 1, 2
    Image.fromarray(numbers).save(mine / 'masks/both.png')
    (mine / 'rows.csv').write_text(
        'image,mask,value,sentence\na.png,both.png,1,"top, left"\na.png,both.png,2,bottom\n'
    )
    assert convert(tool, mine, 'masks', '--split', 'train')[0] == 0
    index = ReferIndex.open(mine / 'data', 'mine')
    assert [s.sent for row in (0, 1) for s in index.ref(row).sentences] == ['top, left', 'bottom']
    for row in (0, 1):
        mask = decode_masks(index.segmentations(row), 10, 20)
        assert (mask == (numbers == row + 1)).all()


@pytest.mark.parametrize(
    ('table', 'form', 'message'),
    [
        ('image,mask,sentence\na.png,a.png,x,y\n', 'masks', 'line 2: more fields than columns'),
        ('image,mask\na.png,a.png\n', 'masks', 'line 2: no sentence or sent or .* image, mask'),
        ('image,mask,sentence\nz.png,a.png,x\n', 'masks', 'line 2: image .*z.png is missing'),
        ('image,mask,sentence\na.png,z.png,x\n', 'masks', 'line 2: mask .*z.png cannot be read'),
        ('image,mask,sentence\na.png,big.png,x\n', 'masks', r'big.png: the mask is of size \(9, 9'),
        ('image,mask,sentence\na.png,none.png,x\n', 'masks', 'no pixel of the mask belongs'),
        ('image,mask,value,sentence\na.png,a.png,one,x\n', 'masks', "value is 'one', not a number"),
        ('ann_id,sentence\n77,x\n', 'coco by name', 'line 2: annotation 77 is not in'),
        ('image_id,sentence\n77,x\n', 'coco by name', 'line 2: image 77 is not in the COCO file'),
        ('image_id,sentence\n2,x\n', 'coco by name', r'has 2 annotations.*ann_id \(20, 21\)'),
    ],
)
def test_bad_rows_name_their_line(mine, tool, table, form, message):
    Image.new('L', (9, 9), 1).save(mine / 'masks/big.png')
    Image.new('L', (20, 10)).save(mine / 'masks/none.png')
    data = json.loads((mine / 'coco.json').read_text())
    data['annotations'].append(dict(id=21, image_id=2, segmentation=[polygon('a.png')]))
    (mine / 'coco.json').write_text(json.dumps(data))
    (mine / 'rows.csv').write_text(table)
    code, output = convert(tool, mine, form)
    assert code == 2 and re.search(message, output), output
    assert 'Traceback' not in output and not (mine / 'data/mine').exists()


def test_tables_are_utf8(tmp_path):
    (tmp_path / 'latin.csv').write_bytes('image,sentence\na.png,Käse\n'.encode('latin1'))
    with pytest.raises(ReferError, match='latin.csv is not UTF-8.*save it as UTF-8'):
        list(read_table(tmp_path / 'latin.csv'))
    (tmp_path / 'x.jsonl').write_text('{"image": "a.png"}\n[1]\n')
    with pytest.raises(ReferError, match='x.jsonl, line 2: not a JSON object'):
        list(read_table(tmp_path / 'x.jsonl'))


def damaged_image(refer, name, content):
    (refer.images / name).write_bytes(content)


def truncated(refer):
    path = refer.images / 'COCO_train2014_000000000002.jpg'
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def copied(refer):
    source = refer.images / 'COCO_train2014_000000000001.jpg'
    (refer.images / 'COCO_train2014_000000000003.jpg').write_bytes(source.read_bytes())


def resized(refer):
    Image.new('RGB', (20, 11)).save(refer.images / 'COCO_train2014_000000000001.jpg')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (truncated, '000000000002.jpg cannot be decoded'),
        (resized, r'000000000001.jpg is of size \(11, 20\).*annotations say \(10, 20\)'),
        (
            copied,
            '1 photographs have the same bytes, .*000000000001.jpg of train is .*3.jpg of val',
        ),
        (
            lambda f: damaged_image(f, 'COCO_train2014_000000000001.jpg', b''),
            'no form that is read',
        ),
    ],
)
def test_check_reads_every_image(refer, damage, message):
    root = refer.write('own')
    damage(refer)
    report = check.check_dataset(root, 'own', 'unc', refer.images)
    assert len(report.problems) == 1 and re.search(message, report.problems[0]), report.problems
    quick = check.check_dataset(root, 'own', 'unc', refer.images, pixels=False)
    assert not quick.problems and 'the images were not decoded' in quick.notes


def change_ref(**values):
    return lambda f: f.refs[1].update(values)


def change_sentence(**values):
    return lambda f: f.refs[1]['sentences'][0].update(values)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (change_ref(ref_id=10), 'ref_id 10 is there more than once'),
        (change_sentence(sent_id=0), 'sent_id 0 is there more than once'),
        (
            lambda f: f.instances['images'].append(f.instances['images'][0]),
            'image id 1 is there mo',
        ),
        (
            lambda f: f.instances['annotations'].append(f.instances['annotations'][2]),
            'annotation id 200 is there more than once',
        ),
        (change_sentence(sent='cut \ud83d', raw='cut'), "ref 11: sentence 3: 'sent' holds half a"),
        (change_sentence(raw=7), "ref 11: sentence 3: 'raw' must be text, got 7"),
        (change_ref(image_id='2'), "ref 11: image_id must be a whole number, got '2'"),
        (change_ref(ann_id=200.0), 'ref 11: ann_id must be a whole number, got 200.0'),
        (change_ref(ann_id=[True]), 'ref 11: ann_id must be a whole number, got True'),
        (change_ref(ref_id=None), 'ref_id must be a whole number, got None'),
        (change_sentence(sent_id='3'), "ref 11: sent_id must be a whole number, got '3'"),
        (change_ref(split=1), 'ref 11: split must be text, got 1'),
        (change_ref(sentences=[]), '1 refs have no sentence, e.g. ref 11'),
    ],
)
def test_ids_and_texts(refer, damage, message):
    damage(refer)
    report = check.check_dataset(refer.write('own'), 'own', 'unc', refer.images)
    assert len(report.problems) == 1 and message in report.problems[0], report.problems


def test_an_unused_double_does_no_harm(refer):
    refer.instances['annotations'].append(refer.instances['annotations'][-1])
    assert not check.check_dataset(refer.write('own'), 'own', 'unc', refer.images).problems


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda text: text.replace('"height": 10', '"height": NaN', 1),
            'NaN is no JSON: write a n',
        ),
        (lambda text: text[:-20], 'it ends early: copy or download it again'),
        (lambda text: text.replace('"images":', '"images"', 1), 'correct the file: Expecting'),
    ],
)
def test_json_that_is_none_tells_the_mend(refer, change, message):
    file = refer.write('own') / 'own/instances.json'
    file.write_text(change(file.read_text()))
    with pytest.raises(ReferError, match=message):
        ReferIndex.open(refer.root, 'own')


def test_byte_order_marks(refer):
    file = refer.write('own') / 'own/instances.json'
    text = file.read_text()
    file.write_text(text, encoding='utf-8-sig')
    assert ReferIndex.open(refer.root, 'own').splits == {'train': 3, 'val': 1}
    file.write_text(text, encoding='utf-16')
    with pytest.raises(ReferError, match='it is UTF-16: save it as UTF-8'):
        ReferIndex.open(refer.root, 'own')


@pytest.mark.parametrize(
    ('names', 'split', 'taken'),
    [
        (['test', 'test_ood', 'test_Amsterdam', 'testA'], 'test', ['test']),
        (['test_ood', 'test_Amsterdam', 'testA', 'testB'], 'test', ['testA', 'testB']),
        (['test_Amsterdam', 'testA', 'testAB', 'testB'], 'testA', ['testA', 'testAB']),
        (['testAB', 'testBC', 'train'], 'testA', ['testAB']),
        (['testing', 'testA', 'train'], 'testA', ['testA']),
    ],
)
def test_split_names(refer, names, split, taken):
    for ref, name in zip(refer.refs, names):
        ref['split'] = name
    index = ReferIndex.open(refer.write('own'), 'own')
    assert [index.ref(row).split for row in index.rows(split)] == taken


def test_image_folder_by_default(refer, tmp_path, monkeypatch):
    root = refer.write('own')
    assert RefCOCODataset(str(root), 'own').image_dir == root / 'images/train2014'
    refer.images.rename(root / 'photos')
    (root / 'images').rmdir()
    (root / 'photos').rename(root / 'images')
    assert RefCOCODataset(str(root), 'own').image_dir == root / 'images'
    monkeypatch.setenv('HOME', str(tmp_path))
    data = RefCOCODataset('~/data', 'own', image_dir='~/data/images')
    assert data.image_dir == root / 'images' and len(data) == 3


ROOTS = {
    '_base_/datasets/refcoco+_480x480': 'REFER_ROOT',
    '_base_/datasets/refcoco-mixed_448x448': 'REFER_ROOT',
    '_base_/datasets/refcoco-mixed-letterbox_448x448': 'REFER_ROOT',
    '_base_/datasets/ref_shapes': 'REF_SHAPES_ROOT',
    '_base_/datasets/photos_384x384': 'PHOTOS_ROOT',
}


@pytest.mark.parametrize(
    'value', ['C:\\data\\new refer', "/data/Bob's refer", '/a "b" {{c}}$D', '~/x']
)
def test_any_path_in_the_environment(root, monkeypatch, value):
    for variable in (*ROOTS.values(), 'FEATURE_CACHE', 'TEXT_TOWER'):
        monkeypatch.setenv(variable, value)
    for name in ROOTS:
        config = Config.fromfile(root / f'configs/{name}.py')
        assert config.train_dataloader.dataset.data_root == value
        assert 'environ' not in config.pretty_text
    photos = Config.fromfile(
        root / 'configs/photos/wordquery_lite0-words_1xb8-12e_photos-384x384.py'
    )
    assert photos.model.backbone.cache == photos.model.text_encoder.name == value


def test_no_config_pastes_the_environment_into_its_text(root):
    """mmengine's {{$NAME}} is pasted before parsing: backslashes and quotes break there."""
    assert not [p.name for p in root.glob('configs/**/*.py') if '{{$' in p.read_text()]
