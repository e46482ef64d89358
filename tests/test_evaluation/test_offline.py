"""Scoring of saved masks, through the command line tool, on generated scenes."""

import importlib.util
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmseg_aml.datasets.refer import ReferIndex, decode_masks
from mmseg_aml.evaluation import RISMetric
from mmseg_aml.evaluation.offline import PredictionError, load_predictions, score_predictions


@pytest.fixture(scope='module')
def score(root):
    path = root / 'tools/analysis_tools/score.py'
    spec = importlib.util.spec_from_file_location('score', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def rle(mask):
    code = coco_mask.encode(np.asfortranarray(mask))
    return {'size': code['size'], 'counts': code['counts'].decode()}


@pytest.fixture(scope='module')
def perfect(generated):
    """Ground truth of every sentence, as predictions."""
    index = ReferIndex.open(generated, 'refcoco')
    masks = {}
    for row in index.rows('val').tolist():
        ref = index.ref(row)
        mask = decode_masks(index.segmentations(row), ref.image.height, ref.image.width)
        masks.update({str(sentence.sent_id): rle(mask) for sentence in ref.sentences})
    return masks


@pytest.fixture
def run(score, generated, tmp_path):
    def run(predictions, *options):
        path = tmp_path / 'predictions.json'
        path.write_text(json.dumps(predictions))
        required = ['--data-root', str(generated), '--dataset', 'refcoco', '--split', 'val']
        return score([str(path), *required, *options])

    return run


def test_perfect_masks(run, perfect, tmp_path, capsys):
    out = tmp_path / 'results' / 'scores.json'
    scores = run(perfect, '--protocol', 'original', 'lisa-original', '--json', str(out))
    assert scores['original/mIoU'] == scores['original/oIoU'] == 100
    assert scores['lisa-original/Pr@0.9'] == 100
    assert scores['expressions'] == len(perfect)
    assert json.loads(out.read_text()) == scores
    assert f'refcoco val: {len(perfect)} expressions' in capsys.readouterr().out


def test_one_empty_mask(run, perfect):
    key = next(iter(perfect))
    worse = {**perfect, key: rle(np.zeros(perfect[key]['size'], np.uint8))}
    assert run(worse)['original/mIoU'] == pytest.approx(100 * (1 - 1 / len(perfect)))


def test_gres_of_one_empty_mask(run, perfect):
    key = next(iter(perfect))
    worse = {**perfect, key: rle(np.zeros(perfect[key]['size'], np.uint8))}
    scores = run(worse, '--metric', 'gres', '--area-threshold', '1')
    assert (
        scores['original/gIoU']
        == scores['original/T-acc']
        == pytest.approx(100 * (1 - 1 / len(perfect)))
    )


def test_missing_and_unknown_sentences_are_counted(run, perfect):
    keys = list(perfect)
    wrong = {key: perfect[key] for key in keys[3:]}
    wrong['123456789'] = perfect[keys[0]]
    with pytest.raises(
        PredictionError, match=f'{len(perfect)} sentences: 3 of them.*1 predictions are for'
    ):
        run(wrong)


def test_mask_of_another_size(run, perfect):
    with pytest.raises(PredictionError, match=r"'resized-448' scores image \d+ at \[448, 448\]"):
        run(perfect, '--protocol', 'resized-448')


def test_resized_masks(run, perfect):
    everything = rle(np.ones((480, 480), np.uint8))
    scores = run(dict.fromkeys(perfect, everything), '--protocol', 'rela-480')
    assert 0 < scores['rela-480/mIoU'] < 50


def test_uncompressed_counts(generated, perfect):
    index = ReferIndex.open(generated, 'refcoco')
    masks = {int(key): mask for key, mask in perfect.items()}
    height, width = masks[min(masks)]['size']
    masks[min(masks)] = {'size': [height, width], 'counts': [height * width]}
    scores = score_predictions(masks, index, 'val', RISMetric())
    assert scores['original/mIoU'] == pytest.approx(100 * (1 - 1 / len(perfect)))


@pytest.mark.parametrize(
    ('content', 'message'),
    [('[1]', 'got a list'), ('{"7": [1, 2]}', "entry '7'"), ('{"a": {"size": 1}}', "entry 'a'")],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / 'file.json'
    path.write_text(content)
    with pytest.raises(PredictionError, match=message):
        load_predictions(path)


def test_broken_run_lengths_are_named(run, perfect):
    key = next(iter(perfect))
    broken = {**perfect, key: {'size': perfect[key]['size'], 'counts': 7}}
    with pytest.raises(PredictionError, match=f'sent_id {key}: not a COCO RLE'):
        run(broken)
