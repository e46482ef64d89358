"""Checkpoints are read once, and ranks that see different files say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_checkpoint_hook import KillAfter, train
from toy_training import toy_config

from mmseg_aml.engine import resume_choice
from mmseg_aml.engine.atomic_files import write_atomically
from mmseg_aml.engine.checkpoints import read_checkpoint
from mmseg_aml.engine.resume_choice import RanksDifferError, read_newest, read_together


def bytes_read() -> int:
    """That this process has asked the kernel for."""
    return int(Path('/proc/self/io').read_text().split()[1])


@pytest.fixture
def large(tmp_path) -> Path:
    """A checkpoint of 8 MB, beside which other reads do not count."""
    path = tmp_path / 'large.pth'
    content = {'state_dict': {str(n): torch.randn(500_000) for n in range(4)}}
    write_atomically(path, lambda file: torch.save(content, file))
    return path


def test_one_read_for_checksums_and_weights(large):
    before = bytes_read()
    read_checkpoint(large)
    assert bytes_read() - before < 1.1 * large.stat().st_size


def test_resuming_reads_once(tmp_path):
    wide = dict(model=dict(type='ToyModel', width=100_000))
    with pytest.raises(SystemExit):
        train(tmp_path, KillAfter(2, rudely=False), **wide)
    size = (tmp_path / 'interrupted.pth').stat().st_size
    before = bytes_read()
    train(tmp_path, resume=True, **wide)
    assert size > 5_000_000 and bytes_read() - before < 1.2 * size


class Ranks:
    """Two ranks, of which this process is the first and the other is told."""

    def __init__(self, monkeypatch, *others) -> None:
        self.others = list(others)
        monkeypatch.setattr(resume_choice, 'all_gather_object', self.gather)
        monkeypatch.setattr(resume_choice, 'PAUSE', 0.001)

    def gather(self, mine):
        other = self.others.pop(0) if len(self.others) > 1 else self.others[0]
        return [mine, other if other is not None else mine]


STALE = (FileNotFoundError('no checkpoint there'), None)


def test_a_rank_that_sees_the_file_late(large, monkeypatch):
    Ranks(monkeypatch, STALE, STALE, None)
    assert set(read_together(large, patience=1.0)) == {'state_dict'}


@pytest.mark.parametrize('seen', [STALE, (None, 12345)])
def test_a_rank_that_sees_another_file(large, monkeypatch, seen):
    Ranks(monkeypatch, seen)
    with pytest.raises(RanksDifferError, match=r'rank 0 reads .*large.pth, but rank\(s\) \[1\]'):
        read_together(large, patience=0.002)


def test_never_from_the_beginning_because_of_one_rank(tmp_path, monkeypatch):
    """Rank 0 has good checkpoints: starting over on all would throw them away."""
    train(tmp_path)
    Ranks(monkeypatch, STALE)
    with pytest.raises(RanksDifferError, match='All nodes must see the same folder'):
        read_newest([tmp_path], patience=0.0)


def test_a_full_disk_while_streaming(tmp_path):
    """/dev/full refuses as a full disk does; PyTorch's own error names neither file nor cause."""
    hidden = tmp_path / '.epoch_1.pth.tmp'
    hidden.symlink_to('/dev/full')
    state = {'w': torch.randn(100_000)}
    with pytest.raises(OSError, match=r'cannot write .*epoch_1.pth \(.*MB free\): No space'):
        write_atomically(tmp_path / 'epoch_1.pth', lambda file: torch.save(state, file))
    assert not list(tmp_path.iterdir())


def test_content_of_our_writer_is_that_of_mmengine(tmp_path):
    train(tmp_path / 'ours')
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['checkpoint'] = dict(type='CheckpointHook', interval=1)
    train(tmp_path / 'theirs', default_hooks=hooks)
    ours, theirs = (
        torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True)
        for name in ('ours', 'theirs')
    )
    assert set(ours) == set(theirs) and set(theirs['meta']) == set(ours['meta'])
    assert ours['param_schedulers'] == theirs['param_schedulers']
    for key, value in theirs['state_dict'].items():
        assert torch.equal(value, ours['state_dict'][key])


def test_recorded_memory_of_a_real_checkpoint(root):
    """2.4 GB: written without a copy, read once; benchmarks/checkpoint_size.py measures it."""
    report = json.loads((root / 'benchmarks/results/checkpoint_size_cpu.json').read_text())
    size = report['gigabytes']
    assert size > 2.4 and report['write']['more_memory_gigabytes'] < 0.01 * size
    assert report['write_by_mmengine']['more_memory_gigabytes'] > 0.9 * size
    assert report['resume']['gigabytes_read'] < 1.01 * size
