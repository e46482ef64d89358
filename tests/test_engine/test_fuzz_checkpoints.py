"""Damaged and hostile checkpoints: an error that names the file, and no code run."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer

from mmseg_aml import compat
from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint

pytestmark = pytest.mark.skipif(
    compat.version_tuple(torch.__version__) < (2, 6), reason='no safe default'
)
BOUNDED = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope='module')
def intact(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp('intact') / 'x.pth'
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = {'state_dict': {'w': torch.ones(20)}, 'message_hub': {'loss': history}, 'meta': {}}
    torch.save(content, path)
    return path.read_bytes()


@pytest.fixture()
def marker(tmp_path, monkeypatch):
    """Fails the test if anything starts a shell."""
    monkeypatch.setattr(os, 'system', lambda command: pytest.fail(f'ran {command}'))
    return tmp_path / 'fuzzed.pth'


def read(path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        assert isinstance(read_checkpoint(path), dict)
    except CheckpointError as error:
        assert 'fuzzed.pth' in str(error)


@BOUNDED
@given(data=st.data())
def test_changed_bytes(intact, marker, data):
    content = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read(marker, bytes(content))


@BOUNDED
@given(share=st.floats(0, 1), tail=st.binary(max_size=64))
def test_cut_and_continued(intact, marker, share, tail):
    read(marker, intact[: int(len(intact) * share)] + tail)


@BOUNDED
@given(content=st.binary(max_size=256))
def test_any_bytes(marker, content):
    read(marker, content)


GLOBALS = [
    'os system', 'posix system', 'builtins eval', 'builtins exec', 'builtins __import__',
    'builtins getattr', 'subprocess Popen', 'runpy run_path', 'torch.hub load',
    'torch.serialization load', 'mmengine.config Config.fromfile', 'numpy load',
    'mmengine.logging.history_buffer HistoryBuffer', 'importlib import_module',
]  # fmt: skip


@BOUNDED
@given(
    name=st.sampled_from(GLOBALS),
    arguments=st.lists(st.text(max_size=8), max_size=3),
    protocol=st.sampled_from([2, 4]),
)
def test_calls_in_pickles(marker, name, arguments, protocol):
    """A bare pickle that calls ``name``; HistoryBuffer alone is let through, as a class."""
    module, attribute = name.split()
    body = pickle.dumps(tuple(arguments), protocol)[:-1]
    read(marker, body + f'c{module}\n{attribute}\n'.encode() + body[2:] + b'R.')
    read(marker, f'c{module}\n{attribute}\n'.encode() + body[2:] + b'R.')


@pytest.mark.parametrize('content', [[1, 2], 'text', torch.ones(2), None, 3])
def test_no_dict(marker, content):
    torch.save(content, marker)
    with pytest.raises(CheckpointError, match='not a dict|truncated or corrupt'):
        read_checkpoint(marker)
