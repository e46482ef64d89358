"""A run that is resumed with other settings, or with iterations of another size."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from mmengine.runner import Runner
from test_checkpoint_hook import KillAfter, assert_same, train
from toy_training import toy_config

from mmseg_aml.engine.checkpoints import CheckpointError
from mmseg_aml.engine.schedule_hook import ScheduleHook
from mmseg_aml.engine.training_size import Clock, TrainingSize

LR = dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)))
LONGER = dict(
    train_cfg=dict(by_epoch=True, max_epochs=6, val_interval=1),
    param_scheduler=dict(type='PolyLR', power=0.9, begin=0, end=24, by_epoch=False),
)


def log_of(folder: Path) -> str:
    return ''.join(path.read_text() for path in folder.rglob('*.log'))


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    """Default hooks with options of the schedule hook."""
    hooks = toy_config(folder)['default_hooks']
    hooks['param_scheduler'].update(changes)
    return dict(default_hooks=hooks)


def loader(folder: Path, batch_size: int) -> dict[str, Any]:
    return dict(
        train_dataloader=dict(toy_config(folder)['train_dataloader'], batch_size=batch_size)
    )


def cut(folder: Path, iteration: int, **changes: Any) -> None:
    with pytest.raises(SystemExit):
        train(folder, KillAfter(iteration, rudely=False), **changes)


class RateLog(KillAfter):
    """The rate of every iteration, by the number of samples seen before it."""

    def __init__(self, stop: int = 0) -> None:
        super().__init__(stop, rudely=False)
        self.rates: dict[int, float] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        wrapper: Any = runner.optim_wrapper
        size = runner.train_dataloader.batch_size
        self.rates[runner.iter * size] = wrapper.get_lr()['lr'][0]


def test_the_checkpoint_wins_and_says_so(tmp_path):
    """Both values are named, and the config that is written down is the one that is used."""
    whole = train(tmp_path / 'whole')
    cut(tmp_path / 'cut', 6)
    assert_same(whole, train(tmp_path / 'cut', resume=True, **LR))
    log = log_of(tmp_path / 'cut')
    assert 'optim_wrapper.optimizer.lr: 0.05 (checkpoint), 0.01 (config)' in log
    assert "the checkpoint's values are used" in log and 'config_wins=True' in log
    newest = max((tmp_path / 'cut').glob('2*.py'), key=lambda path: path.stat().st_mtime)
    assert 'lr=0.05' in newest.read_text()
    # The next start finds the difference again.
    before = log.count('0.01 (config)')
    train(tmp_path / 'cut', resume=True, **LR)
    assert log_of(tmp_path / 'cut').count('0.01 (config)') == before + 1


def test_the_config_wins_on_request(tmp_path):
    """Rates from there on are those of a run that had them from the beginning."""
    expected, seen = RateLog(), RateLog()
    train(tmp_path / 'other', expected, **LR)
    cut(tmp_path / 'cut', 6)
    train(tmp_path / 'cut', seen, resume=True, **LR, **options(tmp_path, config_wins=True))
    assert seen.rates == {k: v for k, v in expected.rates.items() if k >= 18}
    log = log_of(tmp_path / 'cut')
    assert "the config's values are used: optim_wrapper.optimizer.lr: 0.05 (checkpoint)" in log


def test_settings_that_are_not_in_the_optimizer_come_from_the_config(tmp_path):
    cut(tmp_path, 6)
    clipped = dict(
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.05), clip_grad=dict(max_norm=1.0))
    )
    train(tmp_path, resume=True, **clipped)
    text = "the config's values are used: optim_wrapper.clip_grad.max_norm: 'not set' (checkpoint)"
    assert text in log_of(tmp_path)


@pytest.mark.parametrize('change', ['length', 'batch', 'data'])
def test_another_size_is_refused_unasked(tmp_path, change):
    cut(tmp_path, 6)
    changes: dict[str, Any] = {
        'length': LONGER,
        'batch': loader(tmp_path, 6),
        'data': dict(
            train_dataloader=dict(
                toy_config(tmp_path)['train_dataloader'], dataset=dict(type='ToyData', size=30)
            )
        ),
    }[change]
    named = {'length': 'max_epochs: 3 -> 6', 'batch': 'batch_size: 3 -> 6', 'data': '4 -> 10'}
    with pytest.raises(CheckpointError, match=f'{named[change]}.*rescale=True.*config_wins=True'):
        train(tmp_path, resume=True, **changes)


def test_longer_on_request(tmp_path):
    """The schedule that is left goes over what is left, or the config's is taken."""
    cut(tmp_path / 'cut', 6)
    (tmp_path / 'copy').mkdir()
    (tmp_path / 'copy/interrupted.pth').write_bytes((tmp_path / 'cut/interrupted.pth').read_bytes())
    whole, spread, config = RateLog(), RateLog(), RateLog()
    train(tmp_path / 'whole', whole)
    train(tmp_path / 'cut', spread, resume=True, **LONGER, **options(tmp_path, rescale=True))
    assert list(spread.rates)[-1] == 69 and spread.rates[69] == whole.rates[33]
    assert spread.rates[18] == whole.rates[18]
    assert len(set(spread.rates.values())) == 6
    fresh = RateLog()
    train(tmp_path / 'fresh', fresh, **LONGER)
    wins = options(tmp_path, config_wins=True)
    train(tmp_path / 'copy', config, resume=True, **LONGER, **wins)
    assert config.rates == {k: v for k, v in fresh.rates.items() if k >= 18}


def test_two_sizes_there_and_back(tmp_path):
    """Half the batch in between: samples, rates (by auto_scale_lr) and the end stay."""
    scaled = dict(auto_scale_lr=dict(enable=True, base_batch_size=6))
    asked = {**scaled, **options(tmp_path, rescale=True)}
    whole = RateLog()
    data = loader(tmp_path, 6)
    short = dict(param_scheduler=dict(type='PolyLR', power=0.9, begin=0, end=6, by_epoch=False))
    train(tmp_path / 'whole', whole, **scaled, **data, **short)
    seen = [RateLog(3), RateLog(9), RateLog()]
    for hook, size in zip(seen, (6, 3, 6)):
        changes = {**copy.deepcopy(asked), **loader(tmp_path, size), **short}
        try:
            train(tmp_path / 'cut', hook, resume=True, **changes)
        except SystemExit:
            assert hook.iteration
    assert list(seen[0].rates) == [0, 6, 12]
    assert list(seen[1].rates) == [18, 21, 24]
    assert list(seen[2].rates) == [24, 30]  # an iteration of six is not cut
    assert seen[1].rates[18] == pytest.approx(whole.rates[18] / 2)
    assert seen[2].rates[30] == pytest.approx(whole.rates[30])
    log = log_of(tmp_path / 'cut')
    assert '3 samples are seen again' in log and 'learning rates times 0.5' in log


def test_a_rescaled_run_is_resumed_exactly(tmp_path):
    plain = dict(model=dict(type='ToyModel', norm=False))
    cut(tmp_path / 'a', 5, **plain)
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/interrupted.pth').write_bytes((tmp_path / 'a/interrupted.pth').read_bytes())
    asked = {**plain, **loader(tmp_path, 1), **options(tmp_path, rescale=True)}
    whole = train(tmp_path / 'a', resume=True, **copy.deepcopy(asked))
    cut(tmp_path / 'b', 22, resume=True, **copy.deepcopy(asked))
    assert_same(whole, train(tmp_path / 'b', resume=True, **asked))


def test_another_optimizer_is_refused(tmp_path):
    cut(tmp_path, 6)
    sgd = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)))
    with pytest.raises(CheckpointError, match='of AdamW with 1 .*config has SGD.*load_from'):
        train(tmp_path, resume=True, **sgd)


def test_nothing_left_to_train(tmp_path):
    cut(tmp_path, 10)
    shorter = dict(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    with pytest.raises(CheckpointError, match='stands at iteration 10.*ends at iteration 8'):
        train(tmp_path, resume=True, **shorter, **options(tmp_path, rescale=True))


def test_a_checkpoint_without_a_record_is_said(tmp_path):
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['param_scheduler'] = dict(type='ParamSchedulerHook')
    cut(tmp_path, 6, default_hooks=hooks)
    train(tmp_path, resume=True)
    assert 'no record of its settings' in log_of(tmp_path)


def test_both_options_are_a_contradiction():
    with pytest.raises(ValueError, match='set one of them'):
        ScheduleHook(rescale=True, config_wins=True)


@pytest.mark.parametrize('steps, end', [(18, 36), (18, 9), (7, 20), (20, 7), (5, 5)])
def test_clock_spreads_every_step(steps, end):
    clock = Clock(0, 0, end, steps)
    made = [clock.step_at(n + 1) - clock.step_at(n) for n in range(end)]
    assert sum(made) == steps and max(made) - min(made) <= 1


@pytest.mark.parametrize('there', [1, 2, 3, 4, 6])
def test_iterations_of_the_same_samples(there):
    """48 samples; none is lost, fewer than one iteration is seen again."""
    sizes = [TrainingSize(p, 2, 24 // p, 72 // p, 3, True, 1.0) for p in (2, there)]
    for iteration in range(36):
        after, again = sizes[0].iteration_in(sizes[1], iteration // 12, iteration)
        assert 4 * iteration == 2 * there * after + again and 0 <= again < 2 * there


def test_weights_are_untouched_by_the_options(tmp_path):
    """Asking for what is not needed changes nothing."""
    whole = train(tmp_path / 'whole')
    cut(tmp_path / 'cut', 6)
    asked = options(tmp_path, rescale=True)
    assert_same(whole, train(tmp_path / 'cut', resume=True, **asked))
