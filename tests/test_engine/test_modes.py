"""What hooks make in one mode and need in another: train, val alone, test alone, load and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from test_checkpoint_hook import KillAfter, assert_same, train, weights
from toy_training import toy_config

from mmseg_aml.engine.checkpoints import CheckpointError, load_for_test

CUSTOM = {
    'ours': [],
    'ema': [dict(type='EMAHook')],
    'others': [
        dict(type='SyncBuffersHook'),
        dict(type='EmptyCacheHook'),
        dict(type='EarlyStoppingHook', monitor='score', rule='greater', patience=9),
        dict(type='mmseg_aml.DataFaultHook'),
    ],
}


def config(folder: Path, custom: str = 'ours', **changes: Any) -> dict[str, Any]:
    """With a best checkpoint and a test set."""
    settings = toy_config(folder, custom_hooks=CUSTOM[custom], **changes)
    settings['default_hooks']['checkpoint'].update(save_best='score', rule='greater')
    settings.update(
        test_dataloader=settings['val_dataloader'],
        test_evaluator=dict(type='ToyMetric'),
        test_cfg={},
    )
    return settings


@pytest.fixture(params=CUSTOM)
def custom(request):
    return request.param


@pytest.fixture
def trained(tmp_path, custom) -> Path:
    Runner.from_cfg(config(tmp_path / 'trained', custom)).train()
    return tmp_path / 'trained/epoch_3.pth'


def test_every_mode_after_a_training(tmp_path, custom, trained):
    """The same score by every way, and nothing is saved by those that do not train."""
    scores = {}
    for mode in ('val', 'test', 'load_for_test'):
        settings = config(tmp_path / mode, custom)
        if mode != 'load_for_test':
            settings['load_from'] = str(trained)
        runner = Runner.from_cfg({**settings, 'experiment_name': mode})
        if mode == 'load_for_test':
            load_for_test(runner, trained)
        scores[mode] = getattr(runner, 'val' if mode == 'val' else 'test')()['score']
        state = torch.load(trained, weights_only=True)['state_dict']
        assert_same(state, weights(runner))
        assert not list((tmp_path / mode).glob('*.pth'))
    assert len(set(scores.values())) == 1


def test_only_validation_settings(tmp_path, custom):
    """No training set at all, as on a machine that only measures."""
    settings = config(tmp_path, custom)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        settings.pop(key)
    settings['custom_hooks'] = [h for h in settings['custom_hooks'] if 'Early' not in h['type']]
    assert 'score' in Runner.from_cfg(settings).val()
    assert 'score' in Runner.from_cfg({**settings, 'experiment_name': 'again'}).test()


def test_validating_after_training_saves_nothing(tmp_path, custom):
    runner = Runner.from_cfg(config(tmp_path, custom))
    runner.train()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.pth')}
    runner.val()
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.pth')}


def test_load_from_another_architecture(tmp_path, trained):
    other = config(tmp_path / 'other', load_from=str(trained), model=dict(type='ToyModel', width=5))
    with pytest.raises(CheckpointError, match='load_from: .*other shapes.*load_partly=True'):
        Runner.from_cfg(other).train()
    other['default_hooks']['checkpoint']['load_partly'] = True
    other['experiment_name'] = 'partly'
    Runner.from_cfg(other).train()


def test_a_missing_file_to_load_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no checkpoint .*absent.pth'):
        train(tmp_path, load_from=str(tmp_path / 'absent.pth'))


class StopInValidation(KillAfter):
    """Rudely or by SIGTERM in the validation after so many epochs."""

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        pass

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.epoch == self.iteration and batch_idx == 1:
            super().after_train_iter(_At(runner, self.iteration - 1), batch_idx)


class _At:
    def __init__(self, runner: Runner, iteration: int) -> None:
        self.iter = iteration


class Scores(Hook):
    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self.seen[runner.epoch] = metrics['score']


def best_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {
        path.name: torch.load(path, weights_only=True)['state_dict']
        for path in folder.glob('best_*.pth')
    }


@pytest.mark.parametrize('rudely', [True, False])
@pytest.mark.parametrize('epoch', [2, 3])
def test_stopped_in_validation(tmp_path, custom, rudely, epoch):
    """The validation is made up for; EMA's weights are not taken for the model's."""
    whole, cut = Scores(), Scores()
    changes = config(tmp_path, custom)
    changes = {key: changes[key] for key in ('default_hooks', 'custom_hooks')}
    end = train(tmp_path / 'whole', whole, **changes)
    with pytest.raises(BaseException) as left:  # noqa: B017
        train(tmp_path / 'cut', cut, StopInValidation(epoch, rudely), **changes)
    assert rudely or left.value.code == 143
    assert_same(end, train(tmp_path / 'cut', cut, resume=True, **changes))
    assert cut.seen == whole.seen
    best, ours = best_of(tmp_path / 'whole'), best_of(tmp_path / 'cut')
    assert list(best) == list(ours)
    for name in best:
        assert_same(best[name], ours[name])


@pytest.mark.parametrize('rudely', [True, False])
def test_stopped_in_a_validation_without_its_checkpoint(tmp_path, custom, rudely):
    """Checkpoints every second epoch: the first epoch is lost by a kill and kept by a signal."""
    changes = config(tmp_path, custom)
    changes['default_hooks']['checkpoint'].update(interval=2, save_best=None)
    changes = {key: changes[key] for key in ('default_hooks', 'custom_hooks')}
    end = train(tmp_path / 'whole', **changes)
    with pytest.raises(BaseException):  # noqa: B017
        train(tmp_path / 'cut', StopInValidation(1, rudely), **changes)
    assert (tmp_path / 'cut/interrupted.pth').exists() != rudely
    assert_same(end, train(tmp_path / 'cut', resume=True, **changes))


def test_validated_epochs_are_not_validated_again(tmp_path):
    changes = dict(default_hooks=config(tmp_path)['default_hooks'])
    train(tmp_path, **changes)
    again = Scores()
    with pytest.raises(SystemExit):
        train(tmp_path / 'b', KillAfter(6, rudely=False), **changes)
    train(tmp_path / 'b', again, resume=True, **changes)
    assert list(again.seen) == [2, 3]
