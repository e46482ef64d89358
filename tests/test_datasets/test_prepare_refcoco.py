"""The check of a data root, and conversion of mirrors."""

import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from mmseg_aml.datasets import check
from mmseg_aml.datasets.mirrors import ReferWriter, add_mdetr, split_of
from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError, ReferIndex


@pytest.fixture
def tool(run_tool):
    return functools.partial(run_tool, 'dataset_converters/prepare_data.py')


def problems(root, dataset='refcoco', by='unc', **options):
    report = check.check_dataset(root, dataset, by, root / 'images/train2014', **options)
    return report, ' '.join(report.problems)


def test_clean_real_data(mini):
    report, text = problems(mini, 'template')
    assert text == '' and report.counts == {'images': 307, 'refs': 1022, 'expressions': 2178}
    assert report.splits == {'train': 720, 'val': 213, 'testA': 26, 'testB': 63}
    # a folder named refcoco that is not RefCOCO is noticed
    assert 'published: (19994, 50000, 142209)' in problems(mini, masks=False)[1]


@pytest.mark.parametrize('counts, ok', [((3, 4, 7), True), ((3, 4, 9), True), ((3, 4, 99), False)])
def test_counts(refer, monkeypatch, counts, ok):
    monkeypatch.setitem(check.PUBLISHED, ('refcoco', 'unc'), [(1, None, 1), counts])
    assert ('published' in problems(refer.write())[1]) != ok


@pytest.mark.parametrize(
    'damage, message',
    [
        (lambda f: f.refs[3].update(image_id=1, ann_id=100), '1 images of val are in train too'),
        (lambda f: f.refs[0]['sentences'][1].update(raw=' '), "empty 'raw' text, e.g. sent_id 1"),
        (
            lambda f: f.instances['annotations'][0].update(segmentation=[[2, 2, 2, 2, 2, 2]]),
            'mask of 1 refs is empty, e.g. ref 10',
        ),
        (lambda f: f.instances['images'].pop(0), 'lacks 1 image'),
    ],
)
def test_problems(refer, damage, message):
    damage(refer)
    assert message in problems(refer.write('own', 'refs(unc).p'), 'own')[1]


def test_google_split_shares_images_by_design(refer):
    refer.refs[3].update(image_id=1, ann_id=100)
    report, text = problems(refer.write('refcocog', 'refs(google).p'), 'refcocog', 'google')
    assert 'as published' in report.notes[0] and 'leak' not in text


def test_check_tool(refer, tool, tmp_path):
    code, output = tool('check', tmp_path)
    assert code == 1 and 'images/train2014/COCO_train2014' in output
    root = refer.write('own')
    assert tool('check', root, '--datasets', 'own:unc')[0] == 0
    (refer.images / 'COCO_train2014_000000000003.jpg').unlink()
    out = tmp_path / 'out.json'
    code, output = tool('check', root, '--datasets', 'own:unc', 'refcoco', '--json', out)
    assert code == 1 and '1 of 3 images are not in' in output and "no data set 'refcoco'" in output
    assert [bool(r['problems']) for r in json.loads(out.read_text())] == [True, True]


def same_items(first, second):
    """Both data sets show the same sentences about the same masks, in any order."""

    def content(data):
        return sorted(
            (
                e['expression'],
                item['image_id'],
                str([np.ravel(s).tolist() for s in e['segmentation']]),
            )
            for item in map(data.get_data_info, range(len(data)))
            for e in item['expressions']
        )

    assert content(first) == content(second)


def mdetr_style(refer, split):
    """MDETR's form: one "image" per sentence, ids are running numbers."""
    images, annotations = [], []
    for ref in (ref for ref in refer.refs if ref['split'] == split):
        record = next(i for i in refer.instances['images'] if i['id'] == ref['image_id'])
        for sentence in ref['sentences']:
            number = len(images)
            images.append(
                {**record, 'id': number, 'original_id': record['id'], 'caption': sentence['raw']}
            )
            annotations.append(
                dict(id=number, image_id=number, original_id=ref['ann_id'], bbox=[0, 0, 1, 1])
            )
    return dict(images=images, annotations=annotations)


def polygons_only(refer):
    refer.instances['annotations'][1]['segmentation'] = [[1.0, 1.0, 3.5, 1.0, 3.5, 3.0]]
    return refer


def test_mdetr(refer, tool, tmp_path):
    root = polygons_only(refer).write()
    sources = []
    for split in ('train', 'val'):
        sources.append(tmp_path / f'finetune_refcoco_{split}.json')
        sources[-1].write_text(json.dumps(mdetr_style(refer, split)))
    target = ['--to', root, '--dataset', 'mirror']
    code, output = tool('convert', *sources, *target)
    assert code == 2 and 'annotation 100 has no mask' in output and '--instances' in output
    masks = root / 'refcoco/instances.json'
    code, output = tool('convert', *sources, *target, '--instances', masks)
    assert code == 0, output
    for split in ('train', 'val'):
        same_items(
            RefCOCODataset(str(root), 'mirror', split, text='raw', sampling='sentence'),
            RefCOCODataset(str(root), 'refcoco', split, text='raw', sampling='sentence'),
        )
    assert ReferIndex.open(root, 'mirror').splits == {'train': 3, 'val': 1}
    code, output = tool('convert', *sources, *target, '--instances', masks)
    assert code == 2 and 'is there already' in output


def test_refer_pickle_becomes_json(refer, tool, tmp_path):
    root = refer.write()
    folder = root / 'refcoco'
    pickles = tmp_path / 'old.p'
    pickles.write_bytes(pickle.dumps(refer.refs, protocol=0))
    target = ['--to', root, '--dataset', 'mirror', '--instances', folder / 'instances.json']
    code, output = tool('convert', pickles, *target)
    assert code == 0 and 'refs(unc).json' in output
    assert ReferIndex.open(root, 'mirror').ref(0) == ReferIndex.open(root, 'refcoco').ref(0)


def test_parquet(refer, tool, tmp_path):
    arrow, parquet = pytest.importorskip('pyarrow'), pytest.importorskip('pyarrow.parquet')
    root = polygons_only(refer).write()
    annotations = {a['id']: a for a in refer.instances['annotations']}
    images = {i['id']: i for i in refer.instances['images']}
    refs = [ref for ref in refer.refs if ref['split'] == 'train']
    rows = [
        dict(
            sentences=ref['sentences'],
            split=ref['split'],
            raw_anns=json.dumps(annotations[ref['ann_id']]),
            raw_image_info=json.dumps(images[ref['image_id']]),
        )
        for ref in refs
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / 'train.parquet')
    rows = [
        dict(
            answer=[s['raw'] for s in ref['sentences']],
            segmentation=annotations[ref['ann_id']]['segmentation'][0],
            file_name=f'COCO_train2014_{ref["image_id"]:012d}_{ref["ref_id"]}.jpg',
            image=dict(bytes=(refer.images / images[ref['image_id']]['file_name']).read_bytes()),
        )
        for ref in refs
        if len(annotations[ref['ann_id']]['segmentation']) == 1
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / 'train-00000-of-00001.parquet')
    for name, file in (('hf1', 'train.parquet'), ('hf2', 'train-00000-of-00001.parquet')):
        arguments = ['--to', root, '--dataset', name, '--images', tmp_path / name]
        code, output = tool('convert', tmp_path / file, *arguments)
        assert code == 0, output
    options = dict(text='raw', sampling='sentence')
    same_items(RefCOCODataset(str(root), 'hf1', **options), RefCOCODataset(str(root), **options))
    second = RefCOCODataset(str(root), 'hf2', image_dir=str(tmp_path / 'hf2'), **options)
    assert len(second) == 5 and (tmp_path / 'hf2/COCO_train2014_000000000001.jpg').is_file()
    parquet.write_table(arrow.table({'a': [1]}), tmp_path / 'x_val.parquet')
    code, output = tool('convert', tmp_path / 'x_val.parquet', '--to', root, '--dataset', 'hf3')
    assert code == 2 and 'its columns: a' in output


def test_split_names(tmp_path):
    names = [
        'finetune_refcoco+_testA.json',
        'validation-00000-of-2.parquet',
        'refcocog_umd_train.json',
    ]
    assert [split_of(Path(name)) for name in names] == ['testA', 'val', 'train']
    with pytest.raises(ReferError, match='does not tell its split'):
        split_of(Path('data.json'))
    (tmp_path / 'x_val.json').write_text('{"images": [{}], "annotations": []}')
    with pytest.raises(ReferError, match="not MDETR style .KeyError: 'file_name'"):
        add_mdetr(ReferWriter(), tmp_path / 'x_val.json')
