import math

import numpy as np
import pytest

from mmseg_aml.evaluation import GRESMetric


@pytest.fixture
def cases(sample):
    """Six expressions on 10x20 images, predicted and true numbers of rows of 20 pixels.

    a: 5 of 5 rows, IoU 1. b: 4 of 5, IoU .8. c: target, 2 rows predicted = 40 px: no-target.
    d: no target, nothing predicted. e: no target, 3 rows = 60 px. f: no target, 2 rows = 40 px.
    """
    rows = [(5, 5), (4, 5), (2, 5), (0, 0), (3, 0), (2, 0)]
    samples = []
    for i, (predicted, true) in enumerate(rows):
        logits, target = np.full((1, 10, 20), -3.0), np.zeros((10, 20), np.uint8)
        logits[:, :predicted] = 3
        target[:true] = 1
        samples.append(sample(logits, target, sent_id=i, image_index=i // 4))
    return samples


def run(metric, samples):
    metric.process({}, samples)
    scores = metric.evaluate(len({sample['image_index'] for sample in samples}))
    return {key.split('/')[-1]: value for key, value in scores.items()}


def test_area_threshold(cases):
    scores = run(GRESMetric(), cases)
    # IoU: a 1, b .8, c 0, d 1, e 0, f 1. I: 100 + 80 + 0. U: 100 + 100 + 100 (c) + 60 (e).
    assert scores == {
        'gIoU': pytest.approx(100 * 3.8 / 6),
        'cIoU': pytest.approx(100 * 180 / 360),
        'N-acc': pytest.approx(200 / 3),
        'T-acc': pytest.approx(200 / 3),
        'Pr@0.7': pytest.approx(200 / 3),
        'Pr@0.8': pytest.approx(200 / 3),
        'Pr@0.9': pytest.approx(100 / 3),
        'expressions': 6,
    }


def test_other_area_threshold(cases):
    scores = run(GRESMetric(area_threshold=41), cases)
    assert scores == run(GRESMetric(), cases)
    scores = run(GRESMetric(area_threshold=40), cases)
    # Now c counts with IoU .4, and f is missed: I + 40, U + 40.
    assert scores['gIoU'] == pytest.approx(100 * 3.2 / 6)
    assert scores['cIoU'] == pytest.approx(100 * 220 / 400)
    assert scores['N-acc'] == pytest.approx(100 / 3)
    assert scores['T-acc'] == 100


def test_head_decides(cases):
    for sample, decision in zip(cases, [True, False, False, False, True, True]):
        sample['pred_no_target'] = decision
    scores = run(GRESMetric(area_threshold=None), cases)
    # a: I 0, U 100. b: 80/100. c: 40/100. d missed without a pixel: IoU 0. e, f: 1.
    assert scores['gIoU'] == pytest.approx(100 * (0.8 + 0.4 + 2) / 6)
    assert scores['cIoU'] == pytest.approx(100 * 120 / 300)
    assert scores['N-acc'] == pytest.approx(200 / 3)
    assert scores['T-acc'] == pytest.approx(200 / 3)


def test_head_without_decision(cases):
    with pytest.raises(KeyError, match='pred_no_target'):
        run(GRESMetric(area_threshold=None), cases)


def test_no_no_target_expressions(cases):
    scores = run(GRESMetric(), cases[:3])
    assert math.isnan(scores['N-acc'])
    assert scores['gIoU'] == pytest.approx(60)


def test_strict_precision_rule(cases):
    scores = run(GRESMetric(dict(name='strict', precision_rule='>')), cases)
    assert scores['Pr@0.8'] == pytest.approx(100 / 3)


def test_table_names_the_decision(cases, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmseg_aml.evaluation.base.print_log', lambda text, **kwargs: lines.append(text)
    )
    run(GRESMetric(area_threshold=50), cases)
    assert 'no-target: predicted area < 50 px' in lines[0]
