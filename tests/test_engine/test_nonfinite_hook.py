"""Non-finite losses and gradients: the policies, the dump, the statistics."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from toy_training import toy_config

from mmseg_aml.engine.nonfinite_hook import NonFiniteError, any_nonfinite, sample_ids


def run(folder: Path, *hooks: Hook, bad: int | None = 5, **policy: Any) -> Runner:
    config = toy_config(folder)
    config['default_hooks']['nonfinite'].update(policy)
    config['train_dataloader'] = dict(
        config['train_dataloader'], dataset=dict(type='ToyData', bad=bad)
    )
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


class Watch(Hook):
    """Keeps weights and optimizer states after each iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        state = {key: value.clone() for key, value in runner.model.state_dict().items()}
        for number, entry in runner.optim_wrapper.optimizer.state_dict()['state'].items():
            state[f'moment{number}'] = entry['exp_avg'].clone()
        self.seen.append(state)


def test_raise_is_the_default_and_dumps(tmp_path):
    with pytest.raises(NonFiniteError, match=r'non-finite loss in iteration \d; its samples'):
        run(tmp_path)
    (dump,) = (tmp_path / 'nonfinite').glob('*.json')
    record = json.loads(dump.read_text())
    assert record['what'] == 'loss' and record['losses'] == {'loss': ['nan']}


def test_skip_leaves_everything_as_it_was(tmp_path):
    watch = Watch()
    runner = run(tmp_path, watch, policy='skip')
    dumps = sorted((tmp_path / 'nonfinite').glob('*.json'))
    assert len(dumps) == 3 == runner.message_hub.get_info('nonfinite_skipped')  # one an epoch
    for dump in dumps:
        iteration = json.loads(dump.read_text())['iteration']
        if iteration > 1:
            before, after = watch.seen[iteration - 2 : iteration]
            same = [torch.equal(before[k], after[k]) for k in before if 'batches' not in k]
            assert all(same)
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())


def test_limit(tmp_path):
    with pytest.raises(NonFiniteError, match='3 updates were skipped, more than the limit'):
        run(tmp_path, policy='skip', limit=2)


def test_finite_runs_are_untouched(tmp_path):
    left, right = run(tmp_path / 'a', bad=None), run(tmp_path / 'b', bad=None, policy='skip')
    assert not (tmp_path / 'a' / 'nonfinite').exists()
    for key, value in left.model.state_dict().items():
        assert torch.equal(value, right.model.state_dict()[key])


class BadGradient(Hook):
    """A finite loss whose gradient is infinite in one iteration."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train(self, runner) -> None:
        weight = runner.model.layers[0].weight
        weight.register_hook(lambda g: g / 0 if runner.iter + 1 == self.iteration else g)


def test_bad_gradient(tmp_path):
    with pytest.raises(NonFiniteError, match='non-finite gradient in iteration 4'):
        run(tmp_path / 'raise', BadGradient(4), bad=None)
    runner = run(tmp_path / 'skip', BadGradient(4), bad=None, policy='skip')
    assert runner.message_hub.get_info('nonfinite_skipped') == 1
    assert (tmp_path / 'skip' / 'nonfinite' / 'iter_4_rank0.json').is_file()


def test_bad_settings():
    from mmseg_aml.engine.nonfinite_hook import NonFiniteHook

    with pytest.raises(ValueError, match="'ignore' is not one of"):
        NonFiniteHook(policy='ignore')
    with pytest.raises(ValueError, match='at least 1, got 0'):
        NonFiniteHook(limit=0)


@pytest.mark.parametrize(
    ('values', 'bad'),
    [([1.0], False), ([1.0, float('nan')], True), ([float('-inf')], True), ([], False)],
)
def test_any_nonfinite(values, bad):
    assert bool(any_nonfinite([torch.tensor([value]) for value in values])) is bad


def test_sample_ids_of_our_batches():
    sample = {'image_id': 7, 'ref_id': 8, 'sent_id': 9, 'expression': 'left cat', 'other': 1}
    batch = {'data_samples': [SimpleNamespace(samples=[sample])]}
    expected = {'image_id': 7, 'ref_id': 8, 'sent_id': 9, 'expression': 'left cat'}
    assert sample_ids(batch) == [expected]
    assert sample_ids(None) == sample_ids({'x': 1}) == []
