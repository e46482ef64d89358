import math

import numpy as np
import pytest

from mmseg_aml.evaluation import (
    Protocol,
    RISMetric,
    available_protocols,
    get_protocol,
    get_protocols,
    register_protocol,
)
from mmseg_aml.evaluation import protocols as module

PRESETS = (
    'original',
    'resized-448',
    'resized-480',
    'rela-480',
    'cris-original',
    'lisa-original',
)
# Target: the left half of a 4x4 image, also as a polygon. Foreground logit 3 at the left, -1 at
# the right of a 2x2 map, so that the zero crossing is at 0.75 of the way between the two centres.
LEFT_HALF = [[[0, 0, 2, 0, 2, 4, 0, 4]]]


def evaluate(protocol, samples):
    metric = RISMetric(protocol)
    metric.process({}, samples)
    scores = metric.evaluate(len({sample['image_index'] for sample in samples}))
    name = metric.protocols[0].name
    return {key.split('/', 2)[2]: v for key, v in scores.items() if key.startswith(f'ris/{name}/')}


def test_all_presets_are_registered():
    assert available_protocols()[: len(PRESETS)] == PRESETS


@pytest.mark.parametrize(
    ('protocol', 'predicted', 'true', 'side'),
    [
        # align_corners=False: column i of n is at (i + 0.5) * 2 / n - 0.5 < 0.75.
        ('original', 2, 2, 4),
        ('lisa-original', 2, 2, 4),
        # align_corners=True: 3 - 4 i / 447 > 0 for i < 335.25; i < 359.25 at 480.
        ('resized-448', 336, 224, 448),
        ('resized-480', 360, 240, 480),
        # align_corners=False: i + 0.5 < 1.25 * 240.
        ('rela-480', 300, 240, 480),
        # Corner aligned: i / 2; p(1) = (0.9526 + 0.2689) / 2 > 0.35, p(2) = 0.2689.
        ('cris-original', 2, 2, 4),
    ],
)
@pytest.mark.parametrize('channels', [1, 2])
def test_preset_on_hand_computed_case(protocol, predicted, true, side, channels, sample, columns):
    foreground = np.array([[[3.0, -1.0]] * 2])
    logits = foreground if channels == 1 else np.concatenate([foreground * 0, foreground])
    samples = [sample(logits, columns(2, 4, 4), segmentation=LEFT_HALF)]
    scores = evaluate(protocol, samples)
    assert scores['mIoU'] == pytest.approx(100 * true / predicted)
    assert scores['oIoU'] == scores['mIoU']
    metric = RISMetric(protocol)
    metric.process({}, samples)
    assert metric.results[0].counts.tolist() == [[[true * side, predicted * side]]]


@pytest.mark.parametrize(
    ('protocol', 'mean_iou'),
    [('original', 0), ('lisa-original', 0), ('cris-original', 56.25), ('resized-448', 0)],
)
def test_threshold(protocol, mean_iou, sample):
    """Probability 0.3775 everywhere: above 0.35, below 0.5. CRIS warps it against a border of
    zeros, so that the last row and column of 4 fall below."""
    scores = evaluate(protocol, [sample(np.full((1, 2, 2), -0.5), np.ones((4, 4)))])
    assert scores['mIoU'] == mean_iou


@pytest.mark.parametrize(
    ('protocol', 'precision'), [('original', 100), ('lisa-original', 100), ('cris-original', 0)]
)
def test_iou_of_exactly_one_half(protocol, precision, sample, columns):
    logits = np.full((1, 4, 4), -9.0)
    logits[:, :, :2] = 9
    scores = evaluate(protocol, [sample(logits, np.ones((4, 4)))])
    assert scores['mIoU'] == 50
    assert scores['Pr@0.5'] == precision


@pytest.mark.parametrize(
    ('protocol', 'mean_iou', 'precision'),
    [('original', 50, 50), ('lisa-original', 100, 100), ({'empty_union': math.nan}, 100, 100)],
)
def test_empty_union(protocol, mean_iou, precision, sample):
    if isinstance(protocol, dict):
        protocol = dict(name='nan', **protocol)
    nothing, everything = np.full((1, 4, 4), -9.0), np.full((1, 4, 4), 9.0)
    samples = [
        sample(nothing, np.zeros((4, 4)), sent_id=0),
        sample(everything, np.ones((4, 4)), sent_id=1),
    ]
    scores = evaluate(protocol, samples)
    assert scores['mIoU'] == mean_iou
    assert scores['oIoU'] == 100
    assert scores['Pr@0.9'] == precision
    assert scores['empty_unions'] == 1


def test_cris_warps_corner_to_corner(sample, columns):
    """Column i of 8 reads i / 4 of 2: bicubic gives 1, .77, .5, .23, 0 ... (a = -0.75). Rows
    likewise, against the zeros below the last one: row 6 keeps 0.2, row 7 nothing."""
    logits = np.array([[[50.0, -50.0]] * 2])
    expected = columns(3, 8, 8)
    expected[6, 2] = 0
    expected[7] = 0
    scores = evaluate('cris-original', [sample(logits, expected)])
    assert scores['mIoU'] == 100


def test_rela_keeps_thin_polygons_and_saturated_ties(sample):
    """0.4 of 4 pixels is lost in a mask at original size, and 48 columns of 480."""
    thin = [[[0, 0, 0.4, 0, 0.4, 4, 0, 4]]]
    logits = np.concatenate([np.full((1, 4, 4), 60.0), np.full((1, 4, 4), 90.0)])
    metric = RISMetric('rela-480')
    metric.process({}, [sample(logits, np.zeros((4, 4)), segmentation=thin)])
    # Both sigmoids are 1: argmax takes the background.
    assert metric.results[0].counts.tolist() == [[[0, 48 * 480]]]


def test_lavt_drops_pixels_covered_twice(sample):
    crossing = [[[0, 0, 3, 0, 3, 4, 0, 4], [2, 0, 4, 0, 4, 4, 2, 4]]]
    logits = np.full((1, 4, 4), 9.0)
    samples = [sample(logits, np.ones((4, 4)), segmentation=crossing)]
    assert evaluate('resized-480', samples)['mIoU'] == 100
    lavt = dict(name='lavt-480', base='resized-480', overlap='lavt-exclusive')
    assert evaluate(lavt, samples)['mIoU'] == 75


def test_missing_polygons_are_named(sample):
    with pytest.raises(KeyError, match="rela-480.*metainfo 'segmentation'"):
        evaluate('rela-480', [sample(np.zeros((1, 4, 4)), np.ones((4, 4)))])


def test_squashed_input_of_a_letterbox_protocol_warns_once(sample, caplog, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        'mmseg_aml.evaluation.base.print_log',
        lambda text, **kwargs: warnings.append(text) if 'squashed' in text else None,
    )
    squashed = sample(np.zeros((1, 8, 8)), np.ones((4, 8)))
    metric = RISMetric('cris-original')
    metric.process({}, [squashed])
    metric.process({}, [squashed])
    assert len(warnings) == 1
    metric = RISMetric('cris-original')
    metric.process({}, [sample(np.zeros((1, 5, 8)), np.ones((427, 640)))])
    assert len(warnings) == 1


def test_config_dict_takes_the_rest_from_its_base():
    protocol = get_protocol(dict(name='mine', base='cris-original', threshold=0.5))
    assert protocol == Protocol(
        'mine',
        resize='affine-bicubic',
        binarise='probability',
        threshold=0.5,
        precision_rule='>',
        letterbox=True,
    )


def test_user_registers_a_protocol(monkeypatch):
    monkeypatch.setattr(module, '_REGISTRY', dict(module._REGISTRY))
    for _ in range(2):
        mine = register_protocol(Protocol('mine', empty_union=math.nan))
    assert get_protocols(['original', 'mine'])[1] is mine
    with pytest.raises(ValueError, match="'mine' exists already"):
        register_protocol(Protocol('mine'))


@pytest.mark.parametrize(
    ('protocols', 'error', 'message'),
    [
        ('orignal', KeyError, "unknown protocol 'orignal'.*resized-448"),
        ([], ValueError, 'must be given'),
        (['original', 'original'], ValueError, 'each once'),
        (dict(name='a', resolutoin=1), ValueError, 'may have base and'),
        (dict(resolution=1), ValueError, 'needs name'),
        (dict(name='original', resolution=1), ValueError, 'registered already'),
        (dict(name='a', resize='lanczos'), ValueError, 'resize must be one of'),
        (dict(name='a', empty_union=0.5), ValueError, 'empty_union must be'),
        (dict(name='a', resolution=0), ValueError, 'resolution must be'),
    ],
)
def test_bad_protocols(protocols, error, message):
    with pytest.raises(error, match=message):
        get_protocols(protocols)
