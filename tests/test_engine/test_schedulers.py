import json

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmseg_aml.engine.schedulers import published_poly

SETTINGS = {
    'T=300,W=30,r=1e-3': dict(end=300, warmup=30),
    'T=300,no warmup': dict(end=300),
    'T=300,W=30,r=1e-3,min=1e-6': dict(end=300, warmup=30, eta_min=1e-6),
}


def make_wrapper(*rates):
    groups = [dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr) for lr in rates]
    return OptimWrapper(torch.optim.SGD(groups))


def build(wrapper, **cfg):
    return PARAM_SCHEDULERS.build(
        dict(type='mmseg_aml.PublishedPolyLR', **cfg),
        default_args=dict(optimizer=wrapper, epoch_length=30),
    )


def rates(scheduler, wrapper, steps):
    """Rate of every group at each update, scheduler stepped after the update."""
    history = []
    for _ in range(steps):
        history.append([group['lr'] for group in wrapper.optimizer.param_groups])
        wrapper.step()
        scheduler.step()
    return history


@pytest.fixture(scope='module')
def stored(reference):
    return json.loads((reference / 'caris/lr_schedule.json').read_text())


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('in_epochs', [False, True])
def test_equals_stored_schedule(stored, name, in_epochs):
    cfg = dict(SETTINGS[name], by_epoch=False)
    if in_epochs:
        cfg.update(end=10, by_epoch=True, convert_to_iter_based=True)  # 10 epochs of 30
    wrapper = make_wrapper(1e-4)
    got = rates(build(wrapper, **cfg), wrapper, len(stored[name]))
    assert [lr for (lr,) in got] == pytest.approx(stored[name], rel=1e-9, abs=1e-16)


def test_equals_stored_schedule_of_full_length(stored):
    (full,) = (values for values in stored.values() if isinstance(values, dict))
    for step, lr in full.items():
        got = published_poly(1e-4, int(step), 132_500, warmup=1500)
        assert got == pytest.approx(lr, rel=1e-9, abs=1e-16)


def test_groups_keep_their_ratio_and_resume():
    wrapper = make_wrapper(1e-4, 1e-5)
    scheduler = build(wrapper, end=50, warmup=5)
    whole = rates(scheduler, wrapper, 50)
    assert all(slow == pytest.approx(fast / 10) for fast, slow in whole)

    wrapper = make_wrapper(1e-4, 1e-5)
    scheduler = build(wrapper, end=50, warmup=5)
    rates(scheduler, wrapper, 20)
    optimizer_state, scheduler_state = wrapper.state_dict(), scheduler.state_dict()
    wrapper = make_wrapper(1e-4, 1e-5)
    scheduler = build(wrapper, end=50, warmup=5)
    wrapper.load_state_dict(optimizer_state)
    scheduler.load_state_dict(scheduler_state)
    assert rates(scheduler, wrapper, 30) == whole[20:]


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(end=10, begin=2), 'begin=0'),
        (dict(end=10, by_epoch=True), 'by_epoch=False'),
        (dict(end=10, warmup=10), 'warm-up of 10'),
    ],
)
def test_bad_settings(cfg, message):
    with pytest.raises(ValueError, match=message):
        build(make_wrapper(1.0), **cfg)
