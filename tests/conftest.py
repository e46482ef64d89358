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
    """Reference numbers and the mini data set, beside the checkout."""
    folder = ROOT.parent / 'shared'
    if not folder.is_dir():
        pytest.fail(f'{folder} is missing: tests need the shared folder beside the checkout')
    return folder


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
