"""Windows of gradient accumulation that a checkpoint cuts."""

from __future__ import annotations

import pytest
import torch
from test_checkpoint_hook import Kill, KillAfter, assert_same, train
from toy_training import toy_config

from mmseg_aml.engine.nonfinite_hook import NonFiniteHook
from mmseg_aml.engine.rank_state import GRADIENTS


def window(count: int) -> dict:
    adam = dict(type='AdamW', lr=0.05)
    return dict(optim_wrapper=dict(optimizer=adam, accumulative_counts=count))


@pytest.mark.parametrize('rudely', [True, False])
@pytest.mark.parametrize('count', [3, 8])
def test_resume_inside_a_window(tmp_path, rudely, count):
    """Epochs of four iterations; the second window of three goes over the first epoch's end."""
    whole = train(tmp_path / 'whole', **window(count))
    for iteration in (5, 7):
        folder = tmp_path / f'cut_{iteration}'
        with pytest.raises(Kill if rudely else SystemExit):
            train(folder, KillAfter(iteration, rudely), **window(count))
        name = 'epoch_1.pth' if rudely else 'interrupted.pth'
        saved = torch.load(folder / name, weights_only=True)
        assert set(saved[GRADIENTS]) <= set(saved['state_dict'])
        assert_same(whole, train(folder, resume=True, **window(count)))
        log = ''.join(path.read_text() for path in folder.rglob('*.log'))
        assert 'gradients of the unfinished accumulation were restored' in log


def test_nothing_is_kept_between_windows(tmp_path):
    train(tmp_path, **window(2))
    assert GRADIENTS not in torch.load(tmp_path / 'epoch_1.pth', weights_only=True)


def test_another_window_leaves_them_out(tmp_path):
    with pytest.raises(SystemExit):
        train(tmp_path, KillAfter(5, rudely=False), **window(3))
    train(tmp_path, resume=True, **window(2))
    log = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert 'accumulative_counts: 3 (checkpoint), 2 (config)' in log
    assert 'gradients of an unfinished accumulation are left out' in log


def test_a_bad_loss_in_the_cut_window_is_remembered(tmp_path):
    """Sample 7 is NaN: its window is skipped as a whole, also by the resumed run."""
    hooks = toy_config(tmp_path)['default_hooks']
    hooks['nonfinite']['policy'] = 'skip'
    loader = dict(toy_config(tmp_path)['train_dataloader'], dataset=dict(type='ToyData', bad=7))
    changes = {**window(4), 'default_hooks': hooks, 'train_dataloader': loader}
    whole = train(tmp_path / 'whole', **changes)
    for iteration in (1, 2, 3, 5, 6, 7):
        with pytest.raises(SystemExit):
            train(tmp_path / f'{iteration}', KillAfter(iteration, rudely=False), **changes)
        assert_same(whole, train(tmp_path / f'{iteration}', resume=True, **changes))
    hub = torch.load(tmp_path / 'whole/epoch_3.pth', weights_only=True)['message_hub']
    assert hub['runtime_info'][NonFiniteHook.COUNT] == 3
