"""Launchers, and several processes against one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from toy_training import ToyModel, toy_config

from mmseg_aml.engine.distributed import mpi_environment, prepare_launcher, slurm_environment

HERE = Path(__file__).parent


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def torchrun(root: Path, *arguments: str, limit: float = 240) -> subprocess.CompletedProcess:
    """Two processes of ``arguments``."""
    environment = {**os.environ, 'PYTHONPATH': f'{root}:{HERE}', 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2']
        + [f'--master_port={free_port()}', *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
    )


def test_two_processes_equal_one(root, tmp_path):
    """Plain, AML and MaskRIS; each strategy's ranks end with the very same weights."""
    from ddp_steps import STRATEGIES, main

    done = torchrun(root, str(HERE / 'ddp_steps.py'), str(tmp_path / 'two.pth'), 'pytorch')
    assert done.returncode == 0, done.stderr[-3000:]
    main(str(tmp_path / 'one.pth'), 'none')
    one, two = (torch.load(tmp_path / f'{n}.pth', weights_only=True) for n in ('one', 'two'))
    for name in STRATEGIES:
        for key, value in one[name].items():
            torch.testing.assert_close(
                value, two[name][key], rtol=1e-4, atol=1e-6, msg=f'{name}: {key}'
            )
    assert not torch.equal(*(one[n]['decode_head.conv_seg.weight'] for n in ('plain', 'aml')))


@pytest.fixture()
def config_file(tmp_path) -> Path:
    """Seven samples: one more than three on each of two ranks."""
    settings = toy_config(tmp_path / 'work')
    loader = dict(settings['train_dataloader'], dataset=dict(type='ToyData', size=7), batch_size=2)
    settings.update(
        custom_imports=dict(imports=['toy_training']),
        train_dataloader=loader,
        model_wrapper_cfg=dict(type='mmseg_aml.AnyDeviceDDP'),
    )
    path = tmp_path / 'config.py'
    Config(settings).dump(path)
    return path


DRIVER = """
import os, runpy, signal, sys
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Fault(Hook):
    priority = 'ABOVE_NORMAL'
    def __init__(self, kind, iteration):
        self.kind, self.iteration = kind, iteration
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration and runner.rank == 1:
            if self.kind == 'die':
                os._exit(9)
            os.kill(os.getpid(), signal.SIGTERM)

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def train(root: Path, config: Path, *options: str) -> subprocess.CompletedProcess:
    driver = config.with_name('driver.py')
    driver.write_text(DRIVER)
    tool = str(root / 'tools' / 'train.py')
    return torchrun(root, str(driver), tool, str(config), '--launcher', 'pytorch', *options)


def with_fault(config: Path, kind: str, iteration: int) -> Path:
    path = config.with_name(f'{kind}.py')
    hook = dict(type='Fault', kind=kind, iteration=iteration)
    path.write_text(f'_base_ = {config.name!r}\ncustom_hooks = [{hook}]\n')
    return path


def test_one_rank_is_told_to_stop_and_all_resume(root, config_file, tmp_path):
    """Uneven data; a notice to one rank stops all, behind the same iteration; exact after."""
    assert train(root, config_file, '--work-dir', str(tmp_path / 'whole')).returncode == 0
    cut = ['--work-dir', str(tmp_path / 'cut')]
    stopped = train(root, with_fault(config_file, 'stop', 3), *cut)
    assert stopped.returncode, stopped.stderr
    assert 'after iteration 3; go on with --resume' in stopped.stdout + stopped.stderr
    assert (tmp_path / 'cut' / 'interrupted.pth').is_file()
    assert train(root, config_file, *cut, '--resume').returncode == 0
    whole, resumed = (
        torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True)['state_dict']
        for name in ('whole', 'cut')
    )
    assert set(whole) == set(ToyModel().state_dict())
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_dead_rank_ends_the_others(root, config_file, tmp_path):
    start = time.monotonic()
    done = train(root, with_fault(config_file, 'die', 2))
    assert done.returncode and 'exitcode  : 9' in done.stderr, done.stderr
    assert time.monotonic() - start < 120


def test_slurm_environment(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')
    monkeypatch.delenv('MASTER_PORT')
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    with pytest.raises(RuntimeError, match='use --launcher none'):
        slurm_environment()
    step = dict(SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_LOCALID='1', SLURM_JOB_ID='20007')
    for name, value in {**step, 'MASTER_ADDR': 'node1'}.items():
        monkeypatch.setenv(name, value)
    slurm_environment()
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    assert [os.environ[name] for name in names] == ['3', '4', '1', 'node1', '20007']
    monkeypatch.delenv('MASTER_PORT')


def test_mpi_environment(monkeypatch):
    monkeypatch.delenv('OMPI_COMM_WORLD_RANK', raising=False)
    with pytest.raises(RuntimeError, match='mpirun'):
        mpi_environment()


def test_unknown_launcher():
    with pytest.raises(ValueError, match="'slrum' is not one of"):
        prepare_launcher('slrum')
