"""Numbers that say whether a map carries signal, and the hook that logs them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_aml.strategies.aml.hook import PMMEHook
from mmseg_aml.strategies.masking.diagnostics import alignment_diagnostics, roc_auc
from mmseg_aml.strategies.masking.masker import Record


@pytest.mark.parametrize(
    'scores, positives, expected',
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
        ([0.1, 0.4], [1, 1], float('nan')),
    ],
)
def test_auc_by_hand(scores, positives, expected):
    found = roc_auc(torch.tensor(scores), torch.tensor(positives).bool())
    assert found == pytest.approx(expected, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.integers(0, 5), min_size=2, max_size=30),
    seed=st.integers(0, 2**31),
)
def test_auc_is_the_share_of_ordered_pairs(scores, seed):
    values = torch.tensor(scores).float()
    positives = torch.rand(len(values), generator=torch.Generator().manual_seed(seed)) < 0.5
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a in values[positives].tolist()
        for b in values[~positives].tolist()
    ]
    expected = np.mean(pairs) if pairs else float('nan')
    assert roc_auc(values, positives) == pytest.approx(expected, nan_ok=True)


def record() -> Record:
    targets = torch.zeros(1, 64, 64, dtype=torch.bool)
    targets[:, :32, :32] = True
    scores = torch.tensor([[[0.9, 0.1], [0.1, 0.1]]])
    masked = torch.tensor([[[True, False], [False, True]]])
    weak = torch.tensor([[[True, True], [False, True]]])
    valid = torch.ones_like(targets)
    return Record(scores, torch.tensor([0.5]), masked, weak, 32, targets, valid)


def test_shares_by_hand():
    found = alignment_diagnostics(record())
    assert found['masked'].tolist() == [0.5]
    assert found['masked_target'].tolist() == [1.0]
    assert found['weak'].tolist() == [0.75]
    assert found['auc'].item() > 0.95 and found['entropy'].tolist() == [0.5]


def fake_runner(wrapper, iteration=0):
    scalars = {}
    return SimpleNamespace(
        model=SimpleNamespace(loss_wrapper=wrapper),
        iter=iteration,
        scalars=scalars,
        message_hub=SimpleNamespace(
            update_scalar=lambda name, value: scalars.update({name: value})
        ),
    )


def test_hook_logs(build):
    wrapper = build(loss_wrapper=dict(type='mmseg_aml.AMLLossWrapper')).loss_wrapper
    hook = PMMEHook(interval=2)
    runner = fake_runner(wrapper)
    hook.before_train(runner)
    wrapper.last = record()
    runner.iter = 0
    hook.after_train_iter(runner, 0)
    assert not runner.scalars
    runner.iter = 1
    hook.after_train_iter(runner, 1)
    assert runner.scalars['train/aml/masked'] == 0.5
    assert set(runner.scalars) == {
        f'train/aml/{name}' for name in ('weak', 'masked', 'masked_target', 'auc', 'entropy')
    }
    assert not any('loss' in name for name in runner.scalars)


def test_hook_needs_aml(build):
    plain_maskris = build(loss_wrapper=dict(type='mmseg_aml.MaskRISLossWrapper'))
    with pytest.raises(TypeError, match='with an estimator'):
        PMMEHook().before_train(fake_runner(plain_maskris.loss_wrapper))
    with pytest.raises(TypeError, match='add the wrapper or drop the hook'):
        PMMEHook().before_train(fake_runner(None))


def test_steering_by_the_hook_says_where_it_belongs():
    with pytest.raises(TypeError, match='takes no warmup.*AMLLossWrapper takes warmup as a share'):
        PMMEHook(interval=50, warmup=500)
