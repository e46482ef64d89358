"""Released DETRIS files to ours and back; the published parameter groups."""

import gzip
import json
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

import mmseg_aml.engine  # noqa: F401
import mmseg_aml.models  # noqa: F401
from mmseg_aml.models.checkpoints import load_file
from mmseg_aml.models.checkpoints.detris import (
    UNUSED,
    checkpoint_from_ours,
    checkpoint_to_ours,
    detris_from_ours,
    detris_to_ours,
)
from mmseg_aml.registry import MODELS

TOOL = 'tools/model_converters/detris_to_mmseg_aml.py'


@pytest.fixture(scope='module')
def full_size(reference):
    """Names and shapes of the real DETRIS-B, as tensors without memory."""
    text = gzip.decompress((reference / 'keys_detris_b.txt.gz').read_bytes()).decode()
    state = {}
    for line in text.splitlines():
        if not line.startswith('#'):
            key, _, rest = line.partition(' (')
            shape, _, kind = rest.partition(') ')
            sides = [int(n) for n in shape.split(',') if n.strip()]
            state[key] = torch.empty(sides, dtype=getattr(torch, kind.split()[0]), device='meta')
    return state


@pytest.fixture(scope='module')
def full_model(root):
    cfg = Config.fromfile(root / 'configs/_base_/models/detris_dinov2-b.py').model
    cfg.text_encoder.name = None
    with torch.device('meta'):
        return MODELS.build(cfg)


@pytest.fixture
def weights(root):
    """A small network that was not trained here, with weights of the release's names."""
    cfg = Config.fromfile(root / 'configs/_base_/models/detris_vit-mini.py').model
    state = detris_from_ours(MODELS.build(cfg).state_dict())
    width = state['dinov2.cls_token'].shape[-1]
    extra = (torch.tensor(3.5), torch.rand(1, width))
    return {**state, **dict(zip(UNUSED, extra))}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].shape == b[key].shape and a[key].dtype == b[key].dtype, key
        assert a[key].is_meta or torch.equal(a[key], b[key]), key


def test_full_size_fits_the_shipped_config(full_size, full_model):
    assert len(full_size) == 994
    found = detris_to_ours(full_size)
    assert (found.missing, found.unknown, sorted(found.extra)) == ([], [], sorted(UNUSED))
    full_model.load_state_dict(found.state, assign=True)  # strict: names and shapes agree
    assert_same({**detris_from_ours(found.state), **found.extra}, full_size)


def test_unknown_and_missing_keys_are_listed(weights):
    found = detris_to_ours({**weights, 'neck.extra.weight': torch.ones(1)})
    assert found.unknown == ['neck.extra.weight'] and 'neck.extra.weight' in found.extra
    gone = [
        'dinov2.blocks.1.adapter.cross.text_proj.bias',
        'dinov2.blocks.2.ls1.gamma',
        'proj.txt.weight',
    ]
    state = {key: value for key, value in weights.items() if key not in gone}
    assert sorted(detris_to_ours(state).missing) == gone
    with pytest.raises(ValueError, match=r'text_proj\.bias'):
        checkpoint_to_ours(dict(state_dict=state))
    with pytest.raises(ValueError, match='has an entry "state_dict"'):
        checkpoint_to_ours(dict(model=state))
    with pytest.raises(KeyError, match='fusion.layers'):
        detris_from_ours({'fusion.layers.0.weight': torch.ones(1)})


def test_model_trained_here(root, weights):
    back = checkpoint_from_ours(dict(state_dict=detris_to_ours(weights).state))['state_dict']
    assert back.keys() == {f'module.{key}' for key in weights}
    assert back['module.dinov2.mask_token'].eq(0).all()


def test_command_line(root, weights, tmp_path, monkeypatch, capsys):
    source, ours, back = (tmp_path / name for name in ('a.pth', 'b/ours.pth', 'back.pth'))
    official = dict(
        epoch=12,
        cur_iou=0.7,
        best_iou=0.69,
        prec={'Pr@50': 0.8},
        state_dict={f'module.{key}': value for key, value in weights.items()},
        optimizer={},
        scheduler={},
    )
    torch.save(official, source)

    def convert(*argv):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, argv)])
        runpy.run_path(str(root / TOOL), run_name='__main__')
        return capsys.readouterr().out

    said = convert(source, ours)
    assert all(name in said for name in (*UNUSED, 'optimizer', 'scheduler'))
    convert(ours, back, '--reverse')
    result = load_file(back)
    assert_same(result.pop('state_dict'), official.pop('state_dict'))
    assert result == {k: v for k, v in official.items() if k not in ('optimizer', 'scheduler')}


def test_parameter_groups_and_rates_are_the_published_ones(shared, root, full_model):
    cfg = Config.fromfile(root / 'configs/_base_/schedules/detris_65e.py')
    wrapper = dict(cfg.optim_wrapper)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=wrapper.pop('constructor'),
            paramwise_cfg=wrapper.pop('paramwise_cfg'),
            optim_wrapper_cfg=wrapper,
        )
    )
    groups = constructor.param_groups(full_model)
    stored = json.loads((shared / 'parity/detris/param_groups.json').read_text())
    names = {id(p): n for n, p in full_model.named_parameters()}
    assert len(groups) == len(stored) == 2
    for ours, published in zip(groups, stored):
        own = detris_from_ours({names[id(p)]: p for p in ours['params']})
        assert set(own) == set(published['names'])
        assert (ours['lr'], ours['weight_decay']) == (published['lr'], published['weight_decay'])
    rates = json.loads((shared / 'parity/detris/lr_schedule.json').read_text())
    for name, key in (('detris_65e', 'B: '), ('detris_50e', 'L: ')):
        (published,) = (values for title, values in rates.items() if title.startswith(key))
        assert epoch_rates(root, name) == pytest.approx(published)


def epoch_rates(root, schedule):
    from mmengine.registry import PARAM_SCHEDULERS

    cfg = Config.fromfile(root / f'configs/_base_/schedules/{schedule}.py')
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    (scheduler,) = (
        PARAM_SCHEDULERS.build(item, default_args=dict(optimizer=optimizer))
        for item in cfg.param_scheduler
    )
    found = []
    for _ in range(cfg.train_cfg.max_epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return found
