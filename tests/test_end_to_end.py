"""The whole way on generated scenes, by the tools that users type: train, be killed, resume,
test, draw, infer. (Accuracy from random weights on a few scenes means nothing.)
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

CONFIG = 'configs/aml/aml_segformer_r18-mini_1xb8-8e_minirefcoco-160x160.py'
OPTIONS = (
    'train_cfg.max_epochs=3',
    'train_cfg.val_interval=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'default_hooks.logger.interval=1',
    'default_hooks.aml.interval=1',
    'default_hooks.aml.draw_interval=2',
    'default_hooks.visualization.num_samples=2',
)


@pytest.fixture(scope='module')
def data(generated, tmp_path_factory) -> Path:
    """Generated scenes with 16 refs to train on and 4 to validate."""
    folder = tmp_path_factory.mktemp('mini')
    (folder / 'refcoco').mkdir()
    (folder / 'images').symlink_to(generated / 'images')
    instances = (generated / 'refcoco/instances.json').read_bytes()
    (folder / 'refcoco/instances.json').write_bytes(instances)
    refs = pickle.loads((generated / 'refcoco/refs(unc).p').read_bytes())
    train = [ref for ref in refs if ref['split'] == 'train'][:16]
    val = [ref for ref in refs if ref['split'] == 'val'][:4]
    (folder / 'refcoco/refs(unc).p').write_bytes(pickle.dumps(train + val, protocol=2))
    return folder


def start(root: Path, data: Path, *arguments: object) -> subprocess.Popen:
    environment = dict(os.environ, MINIREFCOCO=str(data), OMP_NUM_THREADS='1')
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(root: Path, data: Path, *arguments: object) -> str:
    process = start(root, data, *arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def last_validation(work: Path) -> dict[str, float]:
    """The metrics that the last validation logged."""
    logs = sorted(work.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    found = [line for line in lines if 'ris/original/mIoU' in line][-1]
    return {key: value for key, value in found.items() if key.startswith('ris/')}


def test_train_killed_resumed_tested_and_used(root, data, tmp_path):
    work = tmp_path / 'work'
    train = ('tools/train.py', CONFIG, '--work-dir', work)
    process = start(root, data, *train, '--cfg-options', *OPTIONS)
    deadline = time.monotonic() + 240
    while not (work / 'last_checkpoint').is_file() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (work / 'epoch_3.pth').exists()

    output = run(root, data, *train, '--resume', '--cfg-options', *OPTIONS)
    assert 'esumed' in output
    checkpoint = work / 'epoch_3.pth'
    assert checkpoint.is_file()
    scalars = '\n'.join(path.read_text() for path in work.glob('*/vis_data/scalars.json'))
    assert all(f'aml/{name}' in scalars for name in ('weak', 'masked', 'auc', 'entropy'))
    pictures = [path.name for path in work.glob('*/vis_data/vis_image/*.png')]
    assert any(name.startswith('aml') for name in pictures)
    assert any(name.startswith('val') for name in pictures)

    validated = last_validation(work)
    test = ('tools/test.py', CONFIG, checkpoint, '--work-dir', tmp_path / 'test')
    out = ('--json', tmp_path / 'metrics.json', '--out', tmp_path / 'masks.json')
    show = ('--show-dir', tmp_path / 'pictures')
    output = run(root, data, *test, *out, *show, '--cfg-options', *OPTIONS)
    assert 'original' in output  # the table names its protocol
    tested = json.loads((tmp_path / 'metrics.json').read_text())
    assert tested['ris/expressions'] >= 4
    for key, value in validated.items():
        assert tested[key] == pytest.approx(value, abs=1e-4), key
    assert len(json.loads((tmp_path / 'masks.json').read_text())) == tested['ris/expressions']
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == tested['ris/expressions']

    image = next((data / 'images/train2014').glob('*.png'))
    picture = tmp_path / 'one.png'
    demo = ('demo/image_demo.py', image, 'the man on the left', CONFIG, checkpoint)
    assert 'of the image' in run(root, data, *demo, '--out', picture)
    assert np.asarray(Image.open(picture)).ndim == 3


@pytest.fixture(scope='module')
def small_model(root, tmp_path_factory):
    """Untrained weights of the config, and how to use them."""
    from mmseg_aml.apis import RISInferencer

    inferencer = RISInferencer(root / CONFIG)
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.save(dict(state_dict=inferencer.model.state_dict()), path)
    return path


def test_inferencer_takes_paths_arrays_and_pil(root, small_model, generated):
    from mmseg_aml.apis import RISInferencer

    segment = RISInferencer(Path(CONFIG).stem, small_model)
    path = next((generated / 'images/train2014').glob('*.png'))
    array = np.array(Image.open(path).convert('RGB'))
    first = segment(path, 'the man on the left')
    for image in (array, Image.open(path), str(path)):
        again = segment(image, ['the man on the left', 'a dog'])
        assert len(again) == 2
        np.testing.assert_array_equal(again[0].mask, first.mask)
    assert first.mask.shape == array.shape[:2] and first.mask.dtype == bool
    assert first.picture.dtype == np.uint8


@pytest.mark.parametrize('size', [(1, 1), (3, 700), (1500, 40)])
def test_inferencer_takes_odd_sizes(root, small_model, size):
    from mmseg_aml.apis import RISInferencer

    image = np.zeros((*size, 3), np.uint8)
    sentence = 'κόκκινο 球 🦒 ' + 'word ' * 500
    assert RISInferencer(root / CONFIG, small_model)(image, sentence).mask.shape == size


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sentences=st.lists(st.text(max_size=80), min_size=1, max_size=3),
    seed=st.integers(0, 2**31),
)
def test_any_sentence_about_any_image_gives_masks_or_the_declared_error(
    fuzzed, size, sentences, seed
):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    if any(not sentence.strip() for sentence in sentences):
        with pytest.raises(ValueError, match='none empty'):
            fuzzed(image, sentences)
        return
    found = fuzzed(image, sentences)
    assert [prediction.expression for prediction in found] == sentences
    assert all(prediction.mask.shape == size for prediction in found)


@pytest.fixture(scope='module')
def fuzzed(root, small_model):
    from mmseg_aml.apis import RISInferencer

    return RISInferencer(root / CONFIG, small_model)


def test_inferencer_says_what_is_wrong(root, small_model, tmp_path):
    from mmseg_aml.apis import RISInferencer
    from mmseg_aml.engine.checkpoints import CheckpointError

    segment = RISInferencer(root / CONFIG, small_model)
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match='none empty'):
        segment(image, ' ')
    with pytest.raises(TypeError, match='RGB uint8'):
        segment(np.zeros((8, 8)), 'x')
    with pytest.raises(FileNotFoundError, match='no_such.jpg'):
        segment('no_such.jpg', 'x')
    broken = tmp_path / 'broken.jpg'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:600])
    with pytest.raises(OSError, match='broken.jpg'):
        segment(broken, 'x')
    with pytest.raises(FileNotFoundError, match='did you mean'):
        RISInferencer('aml_segformer_r18', small_model)
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        RISInferencer(root / CONFIG, tmp_path / 'none.pth')
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(2)}), other)
    with pytest.raises(CheckpointError, match='another architecture'):
        RISInferencer(root / CONFIG, other)
