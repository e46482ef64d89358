"""Against the IoU functions of the published CARIS and LAVT code."""

import json
import math

import numpy as np
import pytest

from mmseg_aml.evaluation import RISMetric
from mmseg_aml.evaluation.scores import iou


@pytest.fixture
def pairs(reference):
    return dict(np.load(reference / 'metrics/pairs.npz'))


@pytest.fixture
def official(reference):
    return json.loads((reference / 'metrics/official.json').read_text())


def run(pairs, sample, keep, protocol='original'):
    metric = RISMetric(protocol)
    for i in keep:
        logits = np.where(pairs['pred'][i] > 0, 1.0, -1.0)[None]
        metric.process({}, [sample(logits, (pairs['target'][i] > 0), sent_id=i)])
    counts = np.concatenate([entry.counts[0] for entry in metric.results])
    return counts, metric.evaluate(len(keep))


@pytest.mark.parametrize('function', ['train_batch_IoU', 'eval_batch_IoU'])
def test_caris(pairs, official, sample, function):
    counts, _ = run(pairs, sample, range(12))
    expected = official[function]
    assert counts[:, 0].tolist() == expected['I']
    assert counts[:, 1].tolist() == expected['U']
    np.testing.assert_allclose(iou(counts, math.nan), expected['iou'], rtol=1e-7)


@pytest.mark.parametrize('function', ['lavt_train_IoU_batch1', 'lavt_test'])
def test_lavt(pairs, official, sample, function):
    counts, _ = run(pairs, sample, range(12))
    assert iou(counts, 0.0).tolist() == official[function]


def test_summary(pairs, official, sample):
    expected = official['summary_without_double_empty']
    _, scores = run(pairs, sample, range(11))
    assert scores['ris/original/mIoU'] == pytest.approx(expected['mIoU'], rel=1e-6)
    assert scores['ris/original/oIoU'] == pytest.approx(expected['oIoU'], rel=1e-6)
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        ours = scores[f'ris/original/Pr@{threshold}']
        assert ours == pytest.approx(expected[f'P@{threshold}'], rel=1e-6)


def test_nan_leaves_the_double_empty_pair_out(pairs, sample):
    _, without = run(pairs, sample, range(11))
    _, with_nan = run(pairs, sample, range(12), dict(name='nan', empty_union=math.nan))
    assert with_nan['ris/nan/mIoU'] == without['ris/original/mIoU']
    assert with_nan['ris/nan/Pr@0.5'] == without['ris/original/Pr@0.5']
    assert with_nan['ris/nan/empty_unions'] == 1
