"""gRefCOCO's targets, and mixed training without evaluation images."""

import numpy as np
import pytest
from mmengine.config import Config

from mmseg_aml.datasets.refer import ReferError, ReferIndex
from mmseg_aml.registry import DATASETS

PIPELINE = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]


@pytest.fixture
def grefcoco(refer):
    refer.refs[0]['ann_id'] = [100, 101]  # the square and the line: 36 + 5 - 3 pixels
    refer.refs[1]['ann_id'] = [-1]
    refer.refs[2]['ann_id'] = [101]
    refer.refs[3]['ann_id'] = [300]
    return refer


def test_several_and_no_targets(grefcoco):
    root = grefcoco.write('grefcoco', 'grefs(unc).json')
    options = dict(type='mmseg_aml.GRefCOCODataset', data_root=str(root), pipeline=PIPELINE)
    dataset = DATASETS.build(options)
    assert dataset.target_counts() == {'no_target': 1, 'single': 2, 'multi': 3}
    samples = [dataset[i]['data_samples'].samples[0] for i in range(len(dataset))]
    assert [s.expression for s in samples[:4]] == ['Red box', 'the Box', 'left', 'two parts']
    assert [int(s.gt_sem_seg.data.sum()) for s in samples] == [38, 38, 38, 0, 5, 5]
    assert [s.no_target for s in samples] == [False] * 3 + [True] + [False] * 2
    assert [s.ann_ids for s in samples][2:5] == [[100, 101], [], [101]]
    tests = DATASETS.build({**options, 'test_mode': True})
    assert [len(tests[i]['data_samples'].samples) for i in range(2)] == [5, 1]


def test_no_target_is_an_error_elsewhere(grefcoco):
    with pytest.raises(ReferError, match='annotation id -1'):
        ReferIndex.open(grefcoco.write('refcoco'), 'refcoco')


def test_base_config(root, grefcoco, monkeypatch):
    for record, split in zip(grefcoco.refs, ('train', 'val', 'testA', 'testB')):
        record['split'] = split
    monkeypatch.setenv('REFER_ROOT', str(grefcoco.write('grefcoco', 'grefs(unc).json')))
    config = Config.fromfile(root / 'configs/_base_/datasets/grefcoco_480x480.py')
    lengths = [
        len(DATASETS.build(config[f'{key}_dataloader'].dataset)) for key in ('train', 'val', 'test')
    ]
    assert lengths == [3, 1, 1] and config.val_evaluator.type == 'mmseg_aml.GRESMetric'


@pytest.fixture
def three(refer):
    """RefCOCO trains on images 1, 2; RefCOCO+ tests on 1; RefCOCOg trains on 2, 3."""
    refer.write('refcoco')
    for record, split in zip(refer.refs, ('testA', 'train', 'testA', 'train')):
        record['split'] = split
    refer.write('refcoco+')
    for record, split in zip(refer.refs, ('train', 'train', 'train', 'train')):
        record['split'] = split
    refer.write('refcocog', 'refs(umd).p')
    return refer


@pytest.mark.parametrize('size', [448, 480])
def test_mixed_drops_every_evaluation_image(root, three, monkeypatch, capsys, size):
    monkeypatch.setenv('REFER_ROOT', str(three.root))
    name = f'configs/_base_/datasets/refcoco-mixed_{size}x{size}.py'
    config = Config.fromfile(root / name)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    # image 1 is in RefCOCO+ testA, image 3 in RefCOCO val: image 2 is left
    assert dataset.removed == {'refcoco': 2, 'refcoco+': 1, 'refcocog': 3}
    assert 'removed 6 refs' in capsys.readouterr().out
    items = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [(item['dataset'], item['image_id']) for item in items] == [
        ('refcoco', 2),
        ('refcoco+', 2),
        ('refcocog', 2),
    ]
    assert dataset.metainfo['dataset'] == 'refcoco-mixed'
    assert dataset[5]['inputs'].shape == (3, size, size)


def test_mixed_draws_depend_on_visit(three):
    options = dict(type='mmseg_aml.MixedRefDataset', data_root=str(three.root), text='raw')
    dataset = DATASETS.build({**options, 'parts': [('refcoco', 'unc')]})
    assert dataset.removed == {'refcoco': 0} and len(dataset) == 3
    drawn = [dataset.get_data_info(3 * v)['expressions'][0]['expression'] for v in range(40)]
    assert set(drawn) == {'Red box', 'the Box', 'left'}


def test_mixed_with_nothing_left(three):
    for record in three.refs:
        record['split'] = 'train'
    for i in (0, 1):
        sentences = [{**s, 'sent_id': s['sent_id'] + 90} for s in three.refs[i]['sentences']]
        copy = dict(split='val', ref_id=99 + i, sentences=sentences)
        three.refs.append({**three.refs[i], **copy})
    three.write('refcoco+')
    with pytest.raises(ReferError, match='no refs left'):
        DATASETS.build(dict(type='mmseg_aml.MixedRefDataset', data_root=str(three.root)))


def test_real_folders_share_no_image(mini):
    parts = [('refcoco', 'unc'), ('template', 'unc')]
    dataset = DATASETS.build(
        dict(
            type='mmseg_aml.MixedRefDataset',
            data_root=str(mini),
            parts=parts,
        )
    )
    held_out = set()
    for name, _ in parts:
        index = ReferIndex.open(mini, name)
        rows = [index.rows(split) for split in index.splits if split != 'train']
        held_out |= set(index.image_ids(np.concatenate(rows)).tolist())
    used = {int(i) for part in dataset.parts for i in part.image_ids()}
    assert used and not used & held_out
    # the README: no image is in two splits, in either folder or between them
    assert dataset.removed == {'refcoco': 0, 'template': 0}
