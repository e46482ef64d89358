"""Damaged and hostile checkpoints: an error that names the file, and no code run."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer

from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint

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


def read(path, content: bytes) -> dict | None:
    path.write_bytes(content)
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointError as error:
        assert 'fuzzed.pth' in str(error)
        return None
    assert isinstance(checkpoint, dict)
    return checkpoint


@BOUNDED
@given(data=st.data())
def test_changed_bytes_never_become_weights(intact, marker, data):
    content = bytearray(intact)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    checkpoint = read(marker, bytes(content))
    if checkpoint is not None:
        assert torch.equal(checkpoint['state_dict']['w'], torch.ones(20))
        values, counts = checkpoint['message_hub']['loss'].data
        assert (*values, *counts) == (1, 2, 1, 1)


def test_every_changed_weight_is_found(intact, marker):
    start = intact.index(torch.ones(20).numpy().tobytes())
    for place in range(start, start + 80):
        content = bytearray(intact)
        content[place] ^= 1
        marker.write_bytes(content)
        with pytest.raises(CheckpointError, match='fuzzed.pth is .*wrong checksum of .*data/'):
            read_checkpoint(marker)


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
