"""The shipped schedules on the hosts: parameter groups and rates as published."""

import json
import runpy
from collections import defaultdict

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS

from mmseg_aml.models.checkpoints.caris import caris_from_ours
from mmseg_aml.models.checkpoints.lavt import lavt_from_ours
from mmseg_aml.registry import MODELS


@pytest.fixture(scope='module')
def caris(shared, root):
    return runpy.run_path(str(root / 'tests/parity/caris_case.py'))['build'](
        shared / 'parity/caris'
    )


@pytest.fixture
def lavt(reference, root):
    case = runpy.run_path(str(root / 'tests/parity/lavt_case.py'))
    cfg = case['model_config'](json.loads((reference / 'lavt/config.json').read_text()))
    cfg['text_encoder']['config']['num_hidden_layers'] = 12
    return MODELS.build(cfg)


def optimizer_of(root, schedule, model):
    cfg = Config.fromfile(root / f'configs/_base_/schedules/{schedule}.py').optim_wrapper
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=cfg.pop('constructor'),
            paramwise_cfg=cfg.pop('paramwise_cfg', None),
            optim_wrapper_cfg=cfg,
        )
    )
    return constructor(model)


def official_groups(wrapper, model, rename):
    """{(lr, weight decay): official names}, groups with equal settings kept apart."""
    name_of = {param: name for name, param in model.named_parameters()}
    groups = []
    for group in wrapper.optimizer.param_groups:
        names = {key for p in group['params'] for key in rename({name_of[p]: p})}
        groups.append((group['lr'], group['weight_decay'], names))
    return groups


@pytest.mark.parametrize('flavour', ['caris_50e', 'caris_50e_published'])
def test_six_groups_of_caris(reference, root, caris, flavour):
    wrapper = optimizer_of(root, flavour, caris)
    assert wrapper.clip_grad_kwargs == dict(max_norm=1.0)
    stored = json.loads((reference / 'caris/param_groups_lr1e-4.json').read_text())
    ours = official_groups(wrapper, caris, caris_from_ours)
    assert len(ours) == len(stored) == 6
    for (lr, decay, names), group in zip(ours, stored):
        assert names == set(group['names'])
        assert lr == pytest.approx(group['lr'])
        expected = 0.01 if group['weight_decay'] == 'default' else group['weight_decay']
        assert decay == pytest.approx(expected)


def is_left_out(name):
    return name.startswith(tuple(f'text_encoder.{part}.' for part in ('embeddings', *LAST_LAYERS)))


LAST_LAYERS = ('encoder.layer.10', 'encoder.layer.11')


@pytest.mark.parametrize('flavour', ['lavt_40e', 'lavt_40e_published'])
def test_groups_of_lavt(root, lavt, flavour):
    every = {key for n, p in lavt.named_parameters() for key in lavt_from_ours({n: p})}
    wrapper = optimizer_of(root, flavour, lavt)
    decayed = defaultdict(set)
    for lr, decay, names in official_groups(wrapper, lavt, lavt_from_ours):
        assert lr == 5e-5
        decayed[decay] |= names
    left_out = {n for n in every if flavour.endswith('published') and is_left_out(n)}
    tables = ('norm', 'absolute_pos_embed', 'relative_position_bias_table')
    undecayed = {n for n in every if n.startswith('backbone.') and any(t in n for t in tables)}
    assert decayed == {0.0: undecayed, 0.01: every - undecayed - left_out}
    assert len(left_out) == (37 if flavour.endswith('published') else 0)  # 5 + 2 * 16
    frozen = {n for n, p in lavt.named_parameters() if not p.requires_grad}
    assert {key for n in frozen for key in lavt_from_ours({n: torch.empty(1)})} == left_out


def rates(root, schedule, epoch_length, steps):
    """Rate of every update, with ``epoch_length`` updates an epoch."""
    cfg = Config.fromfile(root / f'configs/_base_/schedules/{schedule}.py')
    param = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([param], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(
            item, default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for item in cfg.param_scheduler
    ]
    history = []
    for _ in range(steps):
        history.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return history


def test_rates_of_caris(root):
    total = 50 * 60
    sane = rates(root, 'caris_50e', 60, total)
    published = rates(root, 'caris_50e_published', 60, total)
    assert sane[0] == pytest.approx(1e-3)
    assert max(abs(a - b) for a, b in zip(sane, sane[1:])) < 1e-3  # no jump
    assert published[:2] == [1.0, pytest.approx(1 - (1 - 1 / 1500) * (1 - 1e-3))]
    assert published[1500] == pytest.approx(1.0)
    late = slice(1501, total)
    expected = [(1 - t / total) ** 0.9 for t in range(total)]
    assert published[late] == pytest.approx(expected[late])
    assert sane[late] == pytest.approx(expected[late], abs=1e-3)


def test_rates_of_lavt(root):
    total = 40 * 5
    expected = [(1 - t / total) ** 0.9 for t in range(total)]
    assert rates(root, 'lavt_40e_published', 5, total) == pytest.approx(expected)
    assert rates(root, 'lavt_40e', 5, total) == pytest.approx(expected, abs=0.01)
