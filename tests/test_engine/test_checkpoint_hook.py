"""Exact resuming, atomic files, falling back past damage."""

from __future__ import annotations

import errno
import io
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from toy_training import toy_config

from mmseg_aml.engine import atomic_files, saving
from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint


class Kill(RuntimeError):
    """Stands for SIGKILL: leaves the loop without any hook running."""


class KillAfter(Hook):
    """Stops after so many iterations of this process, rudely or by SIGTERM."""

    priority = 'ABOVE_NORMAL'

    def __init__(self, iteration: int, rudely: bool) -> None:
        self.iteration, self.rudely = iteration, rudely

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            if self.rudely:
                raise Kill
            signal.raise_signal(signal.SIGTERM)


def weights(runner: Runner) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def train(folder: Path, *hooks: Hook, **changes) -> dict[str, torch.Tensor]:
    runner = Runner.from_cfg(toy_config(folder, **changes))
    for hook in hooks:
        runner.register_hook(hook)
    try:
        runner.train()
    finally:
        for owner in (MMLogger, MessageHub, DefaultScope, Visualizer):
            owner._instance_dict.clear()
    return weights(runner)


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    for key, value in left.items():
        torch.testing.assert_close(value, right[key], rtol=0, atol=0, msg=key)


LOOPS = {
    'epochs': {},
    'iterations': dict(
        train_cfg=dict(by_epoch=False, max_iters=12, val_interval=5),
        default_hooks=dict(
            checkpoint=dict(type='mmseg_aml.AtomicCheckpointHook', interval=3, by_epoch=False),
            exact_resume=dict(type='mmseg_aml.ExactResumeHook'),
            interrupt=dict(type='mmseg_aml.InterruptHook', interval=1),
        ),
        train_dataloader=dict(
            batch_size=3,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            dataset=dict(type='ToyData'),
        ),
    ),
}


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize('rudely', [True, False])
def test_resume_at_any_iteration_is_exact(tmp_path, loop, rudely):
    whole = train(tmp_path / 'whole', **LOOPS[loop])
    for iteration in (1, 4, 5, 6, 11):
        folder = tmp_path / f'cut_{iteration}'
        with pytest.raises(Kill if rudely else SystemExit):
            train(folder, KillAfter(iteration, rudely), **LOOPS[loop])
        assert_same(whole, train(folder, resume=True, **LOOPS[loop]))


def test_resume_twice_inside_one_epoch(tmp_path):
    whole = train(tmp_path / 'whole')
    for iteration in (5, 6, 8):
        with pytest.raises(SystemExit) as left:
            train(tmp_path / 'cut', KillAfter(iteration, False), resume=True)
        assert left.value.code == 143
    assert_same(whole, train(tmp_path / 'cut', resume=True))


def test_resume_with_workers(tmp_path):
    """Workers draw no random numbers here (noise 0); the order of the batches must go on."""
    loader = dict(
        batch_size=3,
        num_workers=2,
        persistent_workers=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='ToyData', noise=0.0),
    )
    whole = train(tmp_path / 'whole', train_dataloader=loader)
    with pytest.raises(SystemExit):
        train(tmp_path / 'cut', KillAfter(6, False), train_dataloader=loader)
    assert_same(whole, train(tmp_path / 'cut', train_dataloader=loader, resume=True))


def flipped(content: bytes, part: str) -> bytes:
    """Bits turned in the middle of the largest entry that ``part`` names, not in its padding."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [entry for entry in archive.infolist() if part in entry.filename]
        data = archive.read(max(entries, key=lambda entry: entry.file_size))
    start = content.index(data) + len(data) // 2
    some = min(64, len(data) // 2)
    return (
        content[:start] + bytes(b ^ 255 for b in content[start:][:some]) + content[start + some :]
    )


DAMAGES = {
    'truncated': lambda content: content[: len(content) // 2],
    'last byte': lambda content: content[:-1],
    'empty': lambda content: b'',
    'pickle': lambda content: flipped(content, 'data.pkl'),
    'weights': lambda content: flipped(content, '/data/'),
    'nonsense': lambda content: b'nonsense',
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_newest_falls_back(tmp_path, damage):
    whole = train(tmp_path)
    newest = tmp_path / 'epoch_3.pth'
    newest.write_bytes(DAMAGES[damage](newest.read_bytes()))
    assert_same(whole, train(tmp_path, resume=True))
    log = ''.join(p.read_text() for p in tmp_path.rglob('*.log'))
    assert 'epoch_3.pth is truncated or corrupt' in log and 'falling back' in log


def test_all_damaged_starts_over_and_says_so(tmp_path):
    whole = train(tmp_path)
    for path in tmp_path.glob('*.pth'):
        path.write_bytes(b'nonsense')
    assert_same(whole, train(tmp_path, resume=True))
    assert 'training starts from the beginning' in ''.join(
        p.read_text() for p in tmp_path.rglob('*.log')
    )


def test_named_damaged_file_is_an_error(tmp_path):
    train(tmp_path)
    path = tmp_path / 'epoch_3.pth'
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match='epoch_3.pth is truncated or corrupt'):
        train(tmp_path, resume=True, load_from=str(path))


def test_moved_folder_and_torn_pointer(tmp_path):
    whole = train(tmp_path / 'old')
    (tmp_path / 'old').rename(tmp_path / 'new')
    (tmp_path / 'new' / 'epoch_3.pth').unlink()
    (tmp_path / 'new' / 'last_checkpoint').write_text('')
    assert_same(whole, train(tmp_path / 'new', resume=True))


def test_resuming_another_architecture(tmp_path):
    train(tmp_path)
    with pytest.raises(CheckpointError, match='other shapes: layers.0.weight'):
        train(tmp_path, resume=True, model=dict(type='ToyModel', width=5))


@pytest.mark.parametrize('moment', ['write', 'fsync', 'replace'])
def test_kill_while_writing(tmp_path, monkeypatch, moment):
    """Whatever the moment, the checkpoint before is whole, and resuming from it is exact."""
    whole = train(tmp_path / 'whole')
    real = atomic_files.write_atomically
    saved = []

    def write(path, content):
        saved.append(Path(path).name)
        if Path(path).name == 'epoch_2.pth':
            monkeypatch.setattr(
                atomic_files.os, {'write': 'fsync'}.get(moment, moment), lambda *_: fail()
            )
        real(path, content)

    def fail():
        raise Kill

    monkeypatch.setattr(saving, 'write_atomically', write)
    with pytest.raises(Kill):
        train(tmp_path / 'cut')
    monkeypatch.undo()
    assert 'epoch_2.pth' in saved
    assert sorted(p.name for p in (tmp_path / 'cut').glob('*.pth')) == ['epoch_1.pth']
    read_checkpoint(tmp_path / 'cut' / 'epoch_1.pth')
    assert_same(whole, train(tmp_path / 'cut', resume=True))


def test_full_disk(tmp_path, monkeypatch):
    """One checkpoint is kept, and yet it is still there after the next could not be written."""
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['checkpoint']['max_keep_ckpts'] = 1
    real_fsync = atomic_files.os.fsync

    def fsync(descriptor):
        if (tmp_path / 'epoch_1.pth').exists():
            raise OSError(errno.ENOSPC, 'No space left on device')
        real_fsync(descriptor)

    monkeypatch.setattr(atomic_files.os, 'fsync', fsync)
    with pytest.raises(OSError, match=r'cannot write .*(epoch_2.pth|last_checkpoint).*free'):
        train(tmp_path, default_hooks=hooks)
    assert [p.name for p in tmp_path.iterdir() if 'epoch' in p.name] == ['epoch_1.pth']
    read_checkpoint(tmp_path / 'epoch_1.pth')


def test_rotation_and_best(tmp_path):
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['checkpoint'].update(max_keep_ckpts=1, save_best='score', rule='greater')
    train(tmp_path, default_hooks=hooks)
    names = sorted(p.name for p in tmp_path.glob('*.pth'))
    assert len(names) == 2 and names[1] == 'epoch_3.pth' and names[0].startswith('best_score')
    assert not list(tmp_path.glob('.*.tmp'))


def test_unknown_best_metric(tmp_path):
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['checkpoint'].update(save_best='ris/original/mIoU', rule='greater')
    with pytest.raises(KeyError, match="not among the metrics \\['score'\\]"):
        train(tmp_path, default_hooks=hooks)
