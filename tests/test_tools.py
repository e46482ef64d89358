"""tools/train.py, tools/test.py and the shell scripts."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from mmseg_aml.engine.checkpoints import CheckpointError
from mmseg_aml.engine.config_check import describe_unknown_keys, unknown_keys
from mmseg_aml.engine.randomness import allow_repeatable_kernels

TOY = Path(__file__).parent / 'test_engine'


def tool(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{name}', root / 'tools' / f'{name}.py')
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture()
def config_file(tmp_path, monkeypatch) -> Path:
    """The toy training as a config file; the working folder is temporary."""
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    from toy_training import toy_config

    settings = toy_config(tmp_path)
    del settings['work_dir'], settings['experiment_name']
    settings.update(
        custom_imports=dict(imports=['toy_training']),
        test_dataloader=settings['val_dataloader'],
        test_evaluator=settings['val_evaluator'],
        test_cfg={},
    )
    path = tmp_path / 'toy_config.py'
    Config(settings).dump(path)
    return path


def test_train_resume_test(root, config_file, tmp_path):
    train, test = tool(root, 'train'), tool(root, 'test')
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler.end=12']
    train.main([str(config_file), *options])
    folder = tmp_path / 'work_dirs' / 'toy_config'  # the default, by the config's name
    assert (folder / 'epoch_1.pth').is_file()
    longer = 'default_hooks.param_scheduler.config_wins=True'
    train.main([str(config_file), '--resume', '--cfg-options', longer])
    train.main([str(config_file), '--work-dir', str(tmp_path / 'whole')])
    resumed, whole = (
        torch.load(path / 'epoch_3.pth', weights_only=True)['state_dict']
        for path in (folder, tmp_path / 'whole')
    )
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    arguments = [str(config_file), str(folder / 'epoch_3.pth'), '--json', 'out/metrics.json']
    metrics = test.main(arguments)
    assert json.loads(Path('out/metrics.json').read_text()) == metrics == test.main(arguments)


def test_bad_checkpoints(root, config_file, tmp_path):
    test = tool(root, 'test')
    from toy_training import ToyModel

    foreign, damaged = tmp_path / 'foreign.pth', tmp_path / 'damaged.pth'
    state = {**ToyModel(width=5).state_dict(), 'extra': torch.ones(1)}
    del state['layers.0.bias']
    torch.save({'state_dict': state}, foreign)
    damaged.write_bytes(foreign.read_bytes()[:500])
    with pytest.raises(CheckpointError) as caught:
        test.main([str(config_file), str(foreign)])
    for part in ('foreign.pth', '1 missing: layers.0.bias', '1 unexpected: extra', '(5, 4), expe'):
        assert part in str(caught.value)
    with pytest.raises(CheckpointError, match='damaged.pth is truncated or corrupt'):
        test.main([str(config_file), str(damaged)])
    with pytest.raises(FileNotFoundError, match='in its folder'):
        test.main([str(config_file), str(tmp_path / 'absent.pth')])


def test_options_of_test(root, config_file):
    test = tool(root, 'test')

    def load(*options: str) -> Config:
        return test.load_config(test.parse_args([str(config_file), 'x.pth', *options]))

    with pytest.raises(ValueError, match='--out needs mmseg_aml.RISMetric'):
        load('--out', 'x.json')
    with pytest.raises(ValueError, match='no key "split"'):
        load('--split', 'testA')
    for wrong in (['--show-num', '3'], ['--show-dir', 'x', '--show-num', '3', '--show-worst', '2']):
        with pytest.raises(SystemExit):
            load(*wrong)
    hook = load('--show-dir', 'x', '--show-worst', '2').default_hooks.visualization
    assert hook == dict(type='mmseg_aml.ShowHook', folder='x', number=None, worst=2)
    config = load(
        *('--cfg-options', 'test_evaluator.type=mmseg_aml.RISMetric'),
        'test_dataloader.dataset.split=val',
        *('--out', 'x.json', '--split', 'testA'),
    )
    assert config.test_evaluator.out_file == 'x.json'
    assert config.test_dataloader.dataset.split == 'testA'


def test_amp(root, config_file):
    train = tool(root, 'train')
    config = train.load_config(train.parse_args([str(config_file), '--amp']))
    half = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    expected = 'AmpOptimWrapper' if half else 'mmseg_aml.Bf16OptimWrapper'
    assert config.optim_wrapper.type == expected
    with pytest.raises(ValueError, match='cannot replace'):
        train.use_amp(Config(dict(optim_wrapper=dict(type='Other'))))


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_local_rank_spellings(root, config_file, monkeypatch, spelling):
    monkeypatch.delenv('LOCAL_RANK')
    for name, more in (('train', []), ('test', ['x.pth'])):
        assert tool(root, name).parse_args([str(config_file), *more, f'{spelling}=1']).local_rank
    assert os.environ.pop('LOCAL_RANK') == '1'


@pytest.mark.parametrize('given', [None, ':16:8'])
def test_cublas_is_told_about_deterministic(monkeypatch, given):
    name = 'CUBLAS_WORKSPACE_CONFIG'
    monkeypatch.setenv(name, given or '')  # restored at the end
    if given is None:
        monkeypatch.delenv(name)
    allow_repeatable_kernels(Config(dict(randomness=dict(seed=0, deterministic=False))))
    assert os.environ.get(name) == given
    allow_repeatable_kernels(Config(dict(randomness=dict(seed=0, deterministic=True))))
    assert os.environ.get(name) == (given or ':4096:8')


def test_unknown_keys():
    known = dict(
        model=dict(type='X', norm_cfg=dict(type='BN')),
        train_dataloader=dict(dataset=dict(pipeline=[dict(type='A')])),
        custom_hooks=[],
    )
    variables = dict(norm_cfg=dict(type='BN'), train_pipeline=[dict(type='A')], size=3, root='x')
    assert unknown_keys({**known, **variables}) == {}
    typos = dict(custom_hook=[dict(type='H')], trian_cfg=dict(x=1), mystery=dict(type='Y'))
    assert unknown_keys({**known, **variables, **typos}) == {
        'custom_hook': 'custom_hooks',
        'trian_cfg': 'train_cfg',
        'mystery': None,
    }
    sentences = describe_unknown_keys({**known, **typos})
    assert "config key 'trian_cfg' has no effect: did you mean 'train_cfg'?" in sentences


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('runner_type', 'FlexibleRunner'),
        ('strategy', dict(type='FSDPStrategy')),
        ('model_wrapper_cfg', dict(type='MMFullyShardedDataParallel')),
    ],
)
def test_sharded_training_is_refused(root, config_file, key, value):
    path = config_file.with_name('sharded.py')
    path.write_text(f'_base_ = {config_file.name!r}\n{key} = {value!r}\n')
    with pytest.raises(ValueError, match=f'FSDP.* not supported .config key {key}.: remove it'):
        tool(root, 'train').main([str(path)])


def test_no_shipped_config_has_unknown_keys(root):
    for path in sorted((root / 'configs').glob('[!_]*/*.py')):
        assert unknown_keys(Config.fromfile(path).to_dict()) == {}, path


SCRIPTS = {
    'dist_train.sh': ['c.py', '2', '--cfg-options', 'a=x y'],
    'dist_test.sh': ['c.py', 'w.pth', '2', '--out', 'x y.json'],
    'slurm_train.sh': ['part', 'job', 'c.py', '--work-dir', 'x y'],
    'slurm_test.sh': ['part', 'job', 'c.py', 'w.pth', '--out', 'x y.json'],
}


def run_script(root: Path, folder: Path, name: str, arguments: list[str], **environment: str):
    """With an srun and a python that print their arguments, one in a line."""
    for command in ('srun', 'python'):
        path = folder / command
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return subprocess.run(
        [str(root / 'tools' / name), *arguments],
        env={'PATH': f'{folder}:{os.environ["PATH"]}', **environment},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_from_any_folder(root, tmp_path, name):
    done = run_script(root, tmp_path, name, SCRIPTS[name])
    lines = done.stdout.splitlines()
    launcher = 'pytorch' if name.startswith('dist') else 'slurm'
    script = f'{name.split("_")[1].removesuffix(".sh")}.py'
    assert str(root / 'tools' / script) in lines
    assert lines[lines.index('--launcher') + 1] == launcher
    assert SCRIPTS[name][-1] in lines  # quoted: one argument
    assert run_script(root, tmp_path, name, []).returncode == 2


def test_slurm_train_resources_and_resume(root, tmp_path):
    arguments = SCRIPTS['slurm_train.sh']
    settings = dict(GPUS='16', GPUS_PER_NODE='8', CPUS_PER_TASK='3', SRUN_ARGS='--mem 4G -q low')
    lines = run_script(root, tmp_path, 'slurm_train.sh', arguments, **settings).stdout.splitlines()
    pairs = dict(zip(lines, lines[1:]))
    assert pairs['--ntasks'] == '16' and pairs['--ntasks-per-node'] == '8'
    assert pairs['--gres'] == 'gpu:8' and pairs['--cpus-per-task'] == '3'
    assert pairs['--mem'] == '4G' and pairs['-q'] == 'low'
    assert lines.count('--resume') == 1
    arguments = [*arguments, '--resume', 'x.pth']
    lines = run_script(root, tmp_path, 'slurm_train.sh', arguments, GPUS='1').stdout.splitlines()
    assert lines.count('--resume') == 1 and dict(zip(lines, lines[1:]))['--gres'] == 'gpu:1'
    lines = run_script(
        root, tmp_path, 'slurm_train.sh', arguments, GPUS='2', GPUS_PER_NODE='0'
    ).stdout.splitlines()
    assert '--gres' not in lines and dict(zip(lines, lines[1:]))['--ntasks'] == '2'


def test_help_runs_as_a_script(root, tmp_path):
    done = subprocess.run(
        [sys.executable, str(root / 'tools' / 'train.py'), '--help'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and '--resume' in done.stdout
