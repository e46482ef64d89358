import json

import numpy as np
import pytest
from mmengine.hooks import CheckpointHook
from pycocotools import mask as coco_mask

from mmseg_aml.evaluation import RISMetric
from mmseg_aml.registry import METRICS


def scored(metric, samples, size=None):
    metric.process({}, samples)
    images = len({sample['image_index'] for sample in samples})
    return metric.evaluate(images if size is None else size)


@pytest.fixture
def three(sample, columns):
    """IoU 1 (4 of 4), 1/2 (4 of 8), 1/4 (4 of 16) on two images of 4x4."""
    logits = [np.where(columns(n, 4, 4), 5.0, -5.0)[None] for n in (1, 2, 4)]
    target = columns(1, 4, 4)
    return [
        sample(logits[0], target, sent_id=10, image_index=0),
        sample(logits[1], target, sent_id=11, image_index=1),
        sample(logits[2], target, sent_id=12, image_index=1),
    ]


def test_all_numbers(three):
    metric = METRICS.build(dict(type='mmseg_aml.RISMetric', protocols=['original']))
    assert scored(metric, three) == {
        'ris/original/mIoU': pytest.approx(100 * 1.75 / 3),
        'ris/original/oIoU': pytest.approx(100 * 12 / 28),
        'ris/original/Pr@0.5': pytest.approx(200 / 3),
        'ris/original/Pr@0.6': pytest.approx(100 / 3),
        'ris/original/Pr@0.7': pytest.approx(100 / 3),
        'ris/original/Pr@0.8': pytest.approx(100 / 3),
        'ris/original/Pr@0.9': pytest.approx(100 / 3),
        'ris/original/empty_unions': 0,
        'ris/expressions': 3,
    }


def test_one_entry_per_image_and_the_padding_is_dropped(three):
    metric = RISMetric()
    metric.process({}, three)
    assert [entry.sent_ids for entry in metric.results] == [(10,), (11, 12)]
    metric.process({}, three[:1])
    assert metric.evaluate(2)['ris/expressions'] == 3


def test_several_protocols_in_one_pass_equal_one_each(three):
    names = ['original', 'resized-448', 'lisa-original']
    together = scored(RISMetric(names), three)
    for name in names:
        alone = scored(RISMetric(name), three)
        assert alone.items() <= together.items()


def test_table_names_protocol_and_counts(three, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmseg_aml.evaluation.base.print_log', lambda text, **kwargs: lines.append(text)
    )
    scored(RISMetric(['original', 'resized-480']), three)
    text = '\n'.join(lines)
    assert 'toy val: 3 expressions, 2 images' in text
    assert 'resized-480' in text and 'empty_unions' in text and '58.33' in text


def test_save_best_understands_the_key():
    hook = CheckpointHook(save_best='ris/original/mIoU')
    assert hook.rules == ['greater']


def test_written_masks_are_those_of_the_first_protocol(three, tmp_path):
    path = tmp_path / 'predictions.json'
    scored(RISMetric(['original', 'resized-448'], out_file=str(path)), three)
    masks = json.loads(path.read_text())
    assert sorted(masks) == ['10', '11', '12']
    assert masks['11']['size'] == [4, 4]
    assert coco_mask.decode(masks['11'])[:, :2].all() and coco_mask.area(masks['11']) == 8


def test_without_out_file_no_masks_travel(three):
    metric = RISMetric()
    metric.process({}, three)
    assert all(entry.masks is None for entry in metric.results)


def test_nothing_predicted():
    with pytest.raises(ValueError, match='got no predictions'):
        RISMetric().evaluate(0)


def test_lost_images(three):
    with pytest.raises(ValueError, match='2 of 5 images were scored'):
        scored(RISMetric(), three, size=5)


def test_repeated_expression(three):
    three[2]['sent_id'] = 10
    with pytest.raises(ValueError, match='1 expressions occur twice.*10'):
        scored(RISMetric(), three)


def test_same_sentence_id_in_two_data_sets(three, tmp_path):
    three[0].update(dataset='other', sent_id=11)
    assert scored(RISMetric(), three)['ris/expressions'] == 3
    with pytest.raises(ValueError, match='occur twice'):
        scored(RISMetric(out_file=str(tmp_path / 'a.json')), three)


def test_resized_ground_truth(three):
    three[0]['ori_shape'] = (8, 8)
    with pytest.raises(ValueError, match='photo.jpg.*LoadRefMasks comes after ResizeRIS'):
        scored(RISMetric(), three)


@pytest.mark.parametrize(
    ('field', 'message'),
    [('gt_sem_seg', 'put LoadRefMasks'), ('image_index', 'TextImageDataPreprocessor')],
)
def test_missing_fields(three, field, message):
    del three[0][field]
    with pytest.raises(KeyError, match=message):
        scored(RISMetric(), three)


def test_out_file_needs_json():
    with pytest.raises(ValueError, match='must end with .json'):
        RISMetric(out_file='masks.pkl')
