"""Items of the data set: which expressions, drawn how, and what is refused."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmseg_aml.datasets.refcoco import RefCOCODataset
from mmseg_aml.datasets.refer import ReferError
from mmseg_aml.datasets.samplers import VISITS, InfiniteRefSampler, RefSampler
from mmseg_aml.registry import DATASETS

PIPELINE = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.ResizeRIS', size=(8, 8)),
    dict(type='mmseg_aml.PackRISInputs'),
]


def texts(item):
    return [expression['expression'] for expression in item['expressions']]


def test_one_random_sentence_per_ref(refer):
    dataset = RefCOCODataset(str(refer.write()))
    assert len(dataset) == 3
    seen = [texts(dataset[visit * 3]) for visit in range(60)]
    assert {tuple(text) for text in seen} == {('red box',), ('the box',), ('left',)}
    counts = np.unique(np.array(seen), return_counts=True)[1]
    assert counts.min() >= 10  # each about 20 times
    again = RefCOCODataset(str(refer.root))
    assert seen == [texts(again[visit * 3]) for visit in range(60)]
    other = RefCOCODataset(str(refer.root), seed=1)
    assert seen != [texts(other[visit * 3]) for visit in range(60)]


def test_item(refer):
    root = refer.write()
    item = RefCOCODataset(str(root), text='raw')[1]
    segmentation = item['expressions'][0].pop('segmentation')
    assert 0 <= item.pop('draw_seed') < 2**32
    assert item == {
        'img_path': str(root / 'images/train2014/COCO_train2014_000000000002.jpg'),
        'image_id': 2,
        'height': 10,
        'width': 20,
        'dataset': 'refcoco',
        'split': 'train',
        'expressions': [{'expression': 'two parts', 'ref_id': 11, 'sent_id': 3, 'ann_ids': [200]}],
    }
    assert [[p.tolist() for p in polygons] for polygons in segmentation] == [
        [[0, 0, 6, 0, 6, 6, 0, 6], [3.25, 3.75, 9, 3.75, 9, 9, 3.25, 9]]
    ]


def test_sentences_images_and_tests(refer):
    root = str(refer.write())
    sentences = RefCOCODataset(root, sampling='sentence')
    assert [texts(sentences[i]) for i in range(len(sentences))] == [
        ['red box'],
        ['the box'],
        ['left'],
        ['two parts'],
        ['thin line'],
        ['a small line'],
    ]
    images = RefCOCODataset(root, sampling='image', num_expressions=3)
    assert len(images) == 2
    drawn = [texts(images[visit * 2]) for visit in range(50)]
    assert all(len(set(three)) == 3 for three in drawn) and len({*sum(drawn, [])}) == 5
    assert texts(images[1]) == ['two parts']  # has no more
    tests = RefCOCODataset(root, test_mode=True, text='raw')
    assert [texts(tests[i]) for i in range(2)] == [
        ['Red box', 'the Box', 'left', 'thin line', 'a small LINE'],
        ['two parts'],
    ]
    ids = [(e['ref_id'], e['sent_id'], e['ann_ids']) for e in tests[0]['expressions']]
    assert ids == [(10, 0, [100]), (10, 1, [100]), (10, 2, [100]), (12, 4, [101]), (12, 5, [101])]


@pytest.mark.parametrize(
    'dataset, split, sentences', [('refcoco', 'val', 183), ('template', 'testB', 133)]
)
def test_tests_take_every_sentence_once(mini, dataset, split, sentences):
    data = RefCOCODataset(str(mini), dataset, split, test_mode=True)
    ids = [e['sent_id'] for i in range(len(data)) for e in data[i]['expressions']]
    assert len(ids) == len(set(ids)) == sentences
    assert len(data) == len(data.image_ids())
    plain = pickle.loads((mini / dataset / 'refs(unc).p').read_bytes())
    assert set(ids) == {s for ref in plain if ref['split'] == split for s in ref['sent_ids']}


@pytest.mark.parametrize(
    'options, error, message',
    [
        (dict(split='dev'), ReferError, r"no split 'dev'.*train \(3 refs\), val \(1 refs\)"),
        (dict(text='tokens'), ValueError, "text must be one of sent, raw, got 'tokens'"),
        (dict(sampling='all'), ValueError, 'sampling must be one of'),
        (dict(num_expressions=2), ValueError, "needs sampling='image'"),
        (dict(num_expressions=0, sampling='image'), ValueError, 'positive'),
        (dict(image_dir='photos'), FileNotFoundError, 'photos does not exist.*image_dir'),
        (dict(dataset='refcoco+'), FileNotFoundError, 'data sets there: refcoco'),
    ],
)
def test_wrong_arguments(refer, options, error, message):
    with pytest.raises(error, match=message):
        RefCOCODataset(str(refer.write()), **options)


def test_empty_expression(refer):
    refer.refs[0]['sentences'][1]['sent'] = '  '
    root = str(refer.write())
    with pytest.raises(ReferError, match=r"1 sentence.*'train'.*sent_id 1\. .*text='raw'"):
        RefCOCODataset(root)
    assert len(RefCOCODataset(root, text='raw')) == 3
    assert len(RefCOCODataset(root, split='val')) == 1
    refer.refs[1]['sentences'] = []
    with pytest.raises(ReferError, match='ref 11 has no sentence'):
        RefCOCODataset(str(refer.write()), text='raw')


def test_image_dir(refer, tmp_path):
    root = refer.write()
    refer.images.rename(tmp_path / 'elsewhere')
    for image_dir in (str(tmp_path / 'elsewhere'), '../elsewhere'):
        dataset = RefCOCODataset(str(root), image_dir=image_dir, pipeline=PIPELINE)
        assert dataset[0]['inputs'].shape == (3, 8, 8)


def test_nothing_is_skipped_or_replaced(refer):
    root = refer.write()
    path = refer.images / 'COCO_train2014_000000000002.jpg'
    dataset = DATASETS.build(
        dict(type='mmseg_aml.RefCOCODataset', data_root=str(root), pipeline=PIPELINE)
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=f'{path.name} cannot be decoded'):
        list(DataLoader(dataset, num_workers=1, collate_fn=pseudo_collate))
    path.write_text('no image')
    with pytest.raises(OSError, match=f'{path.name} cannot be decoded'):
        dataset[1]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'{path.name} is missing; set image_dir'):
        dataset[1]
    with pytest.raises(IndexError):
        dataset[-1]


@pytest.mark.parametrize('workers', [0, 2])
def test_draws_do_not_depend_on_workers_or_resume(refer, workers):
    dataset = RefCOCODataset(str(refer.write()))

    def epochs(wanted):
        sampler = RefSampler(dataset, seed=5)
        options = dict(num_workers=workers, persistent_workers=workers > 0)
        loader = DataLoader(dataset, batch_size=2, sampler=sampler, collate_fn=list, **options)
        result = []
        for epoch in wanted:
            sampler.set_epoch(epoch)
            result.append([texts(item) for batch in loader for item in batch])
        return result

    all_epochs = epochs(range(6))
    assert epochs([4, 5]) == all_epochs[4:]
    assert len({str(epoch) for epoch in all_epochs}) > 1


class FakeData:
    def __len__(self):
        return 5


def test_samplers_tell_the_visit():
    sampler = RefSampler(FakeData(), shuffle=False, seed=0)
    assert list(sampler) == [0, 1, 2, 3, 4]
    sampler.set_epoch(2)
    assert list(sampler) == [10, 11, 12, 13, 14] and len(sampler) == 5
    stream = iter(InfiniteRefSampler(FakeData(), seed=0))
    passes = [[next(stream) for _ in range(5)] for _ in range(3)]
    assert [sorted(p) for p in passes] == [[5 * k + i for i in range(5)] for k in range(3)]
    assert [i % 5 for i in passes[0]] != [i % 5 for i in passes[1]]


def test_ranks_share_an_epoch(monkeypatch):
    shares = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = RefSampler(FakeData(), seed=3)
        sampler.set_epoch(1)
        shares.append([index - 3 * VISITS * 5 for index in sampler])
    assert [len(share) for share in shares] == [3, 3]  # rounded up
    assert set(shares[0] + shares[1]) == {5, 6, 7, 8, 9}


def test_pickled_to_workers_by_reference(refer):
    dataset = RefCOCODataset(str(refer.write()), pipeline=PIPELINE)
    data = pickle.dumps(dataset)
    assert len(data) < 20_000
    assert torch.equal(pickle.loads(data)[2]['inputs'], dataset[2]['inputs'])
    assert dataset.metainfo['classes'][1] == 'referred object'


def base_configs():
    folder = os.path.join(os.path.dirname(__file__), '../../configs/_base_/datasets')
    return sorted(
        name for name in os.listdir(folder) if name.startswith('refcoco') and 'mixed' not in name
    )


@pytest.mark.parametrize('name', base_configs())
def test_base_configs_read_their_data_set(root, refer, monkeypatch, name):
    for record, split in zip(refer.refs, ('train', 'val', 'test', 'testA')):
        record['split'] = split
    for dataset, by in (('refcoco', 'unc'), ('refcoco+', 'unc'), ('refcocog', 'umd')):
        refer.write(dataset, f'refs({by}).p')
    refer.write('refcocog', 'refs(google).p')
    monkeypatch.setenv('REFER_ROOT', str(refer.root))
    config = Config.fromfile(root / 'configs/_base_/datasets' / name)
    size = int(name.split('.')[0][-3:])
    for key in ('train', 'val', 'test'):
        dataset = DATASETS.build(config[f'{key}_dataloader'].dataset)
        item = dataset[0]
        (sample, *_) = item['data_samples'].samples
        assert item['inputs'].shape == (3, size, size)
        expected = (size, size) if key == 'train' else (10, 20)
        assert sample.gt_sem_seg.shape == expected
        assert json.dumps(dataset.metainfo)
    own = 'cris-original' if 'letterbox' in name else f'resized-{size}'
    assert own in config.test_evaluator.protocols


def test_seeds_of_the_runner_give_other_sentences(refer):
    """The sampler's seed is the Runner's; a seed of the data set's own wins."""
    root = str(refer.write())

    def drawn(seed, sampler=RefSampler, own=None):
        dataset = RefCOCODataset(root, sampling='image', seed=own)
        stream = iter(sampler(dataset, shuffle=False, seed=seed))
        return [texts(dataset[next(stream)]) for _ in range(len(dataset))]

    for sampler in (RefSampler, InfiniteRefSampler):
        assert len({str(drawn(seed, sampler)) for seed in range(8)}) > 1
        assert len({str(drawn(seed, sampler, own=3)) for seed in range(8)}) == 1
    plain = RefCOCODataset(root, sampling='image')
    assert drawn(0) == [texts(plain[i]) for i in range(len(plain))]
