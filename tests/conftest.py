"""Fixtures shared by all tests."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('HF_HUB_OFFLINE', '1')

from pathlib import Path

import pytest
import torch

import mmseg_aml  # noqa: F401  the compat layer comes before mmseg's own modules

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    """Reference networks and photographs, beside the checkout: too large to be part of it."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.skip(f'needs the large reference files, which are not in {folder}')
    return folder


@pytest.fixture(scope='session')
def reference() -> Path:
    """Small reference numbers, computed with the published networks."""
    return ROOT / 'tests/reference'


@pytest.fixture(scope='session')
def generated(tmp_path_factory) -> Path:
    """RefShapes scenes laid out as a RefCOCO download: refcoco/ and images/train2014/."""
    from mmseg_aml.datasets.ref_shapes import export_ref_shapes

    root = tmp_path_factory.mktemp('generated')
    counts = {'train': 8, 'val': 6, 'testA': 4, 'testB': 6}
    export_ref_shapes(root / 'raw', counts, size=(160, 120), most_shapes=5)
    (root / 'raw/refshapes').rename(root / 'refcoco')
    (root / 'images').mkdir()
    (root / 'raw/images').rename(root / 'images/train2014')
    return root


@pytest.fixture(autouse=True)
def fresh_mmengine_globals():
    """Forget MMEngine's named singletons, so that Runners of one process do not mix."""
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope
    from mmengine.visualization import Visualizer

    yield
    for owner in (MMLogger, MessageHub, DefaultScope, Visualizer):
        owner._instance_dict.clear()


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """A flush waits for everything that is being written to a busy disk, up to a minute."""
    monkeypatch.setattr(os, 'fsync', lambda descriptor: None)
