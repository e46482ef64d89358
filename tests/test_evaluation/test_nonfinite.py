"""Logits that are NaN: counted, said, and never a free empty mask."""

import numpy as np
import pytest
import torch

from mmseg_aml.evaluation import GRESMetric, RISMetric
from mmseg_aml.evaluation.masks import binary_prediction
from mmseg_aml.evaluation.protocols import get_protocol


def sample(sent_id, logit, target, **extra):
    truth = torch.zeros(1, 4, 4, dtype=torch.uint8)
    truth[:, :2] = int(target)
    return dict(
        seg_logits=dict(data=torch.full((1, 4, 4), logit)),
        gt_sem_seg=dict(data=truth),
        ori_shape=(4, 4),
        sent_id=sent_id,
        image_index=sent_id,
        **extra,
    )


@pytest.mark.parametrize('logit', [float('nan'), float('inf')])
def test_worst_mask_and_a_count(logit):
    metric = GRESMetric(['original', 'lisa-original'], area_threshold=5)
    metric.process({}, [sample(0, logit, False), sample(1, -9.0, False), sample(2, logit, True)])
    scores = metric.evaluate(3)
    assert scores['gres/nonfinite'] == 2
    assert scores['gres/original/N-acc'] == 50
    assert scores['gres/original/gIoU'] == pytest.approx(100 / 3)
    metric = RISMetric(['original', 'lisa-original'])
    metric.process({}, [sample(0, logit, False), sample(1, logit, True)])
    scores = metric.evaluate(2)
    assert scores['ris/lisa-original/mIoU'] == scores['ris/original/oIoU'] == 0


def test_finite_logits_are_not_counted():
    metric = RISMetric()
    metric.process({}, [sample(0, 9.0, True)])
    assert 'ris/nonfinite' not in metric.evaluate(1)


def test_no_target_is_what_the_annotation_says():
    metric = GRESMetric(area_threshold=5)
    metric.process({}, [sample(0, -9.0, False, no_target=False)])  # its mask decoded to nothing
    scores = metric.evaluate(1)
    assert np.isnan(scores['gres/original/N-acc']) and scores['gres/original/T-acc'] == 0


def test_cris_pads_with_zeros():
    protocol = get_protocol('cris-original')
    logits = torch.full((1, 1, 8, 8), 9.0)
    found = binary_prediction(logits, (32, 32), protocol)[0]  # rows 29 to 31 lie past the last one
    assert found[:29, :29].all() and not found[31].any() and not found[:, 31].any()
