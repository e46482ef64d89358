"""Released LAVT files to ours and back."""

import argparse
import gzip
import runpy
import sys
from functools import partial

import pytest
import torch
from mmengine.config import Config

from mmseg_aml.models.checkpoints import add_prefix, load_file, with_prefix
from mmseg_aml.models.checkpoints.lavt import (
    checkpoint_from_ours,
    checkpoint_to_ours,
    lavt_from_ours,
    lavt_to_ours,
)
from mmseg_aml.registry import MODELS

UNUSED = ['backbone.layers.3.res_gate.0.weight', 'backbone.layers.3.res_gate.2.weight']
TOOL = 'tools/model_converters/lavt_to_mmseg_aml.py'


@pytest.fixture(scope='module')
def weights(shared):
    """The small network (no BERT) of the reference folder."""
    return torch.load(shared / 'parity/lavt/state_dict.pt', weights_only=True)


@pytest.fixture(scope='module')
def full_size(reference):
    """Names and shapes of the real ``lavt_one``, as tensors without memory."""
    text = gzip.decompress((reference / 'keys_lavt.txt.gz').read_bytes()).decode()
    state = {}
    for line in text.splitlines():
        if not line.startswith('#'):
            key, shape, dtype = line.partition(' (')[0], line[line.index('(') :], line.split()[-1]
            shape = [int(n) for n in shape[1 : shape.index(')')].split(',') if n.strip()]
            state[key] = torch.empty(shape, dtype=getattr(torch, dtype), device='meta')
    return state


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].shape == b[key].shape and a[key].dtype == b[key].dtype, key
        assert a[key].is_meta or torch.equal(a[key], b[key]), key


def test_round_trip_of_the_reference_weights(weights):
    found = lavt_to_ours(weights)
    assert (found.missing, found.unknown, sorted(found.extra)) == ([], [], UNUSED)
    assert_same({**lavt_from_ours(found.state), **found.extra}, weights)


def test_full_size_fits_the_shipped_config(root, full_size, monkeypatch):
    found = lavt_to_ours(full_size)
    assert (found.missing, found.unknown, sorted(found.extra)) == ([], [], UNUSED)
    assert_same({**lavt_from_ours(found.state), **found.extra}, full_size)

    cfg = Config.fromfile(root / 'configs/_base_/models/lavt_swin-b.py').model
    bert = dict(model_type='bert', vocab_size=30522)
    cfg.text_encoder.update(name=None, config=bert, tokenizer='tiny')
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))  # drop path
    with torch.device('meta'):
        model = MODELS.build(cfg)
    model.load_state_dict(found.state, assign=True)  # strict: names and shapes agree


@pytest.mark.parametrize('layout', ['lavt', 'lavt_one'])
@pytest.mark.parametrize('module', ['', 'module.'])
def test_both_layouts(full_size, layout, module):
    bert = with_prefix(full_size, 'text_encoder.')
    network = {k: v for k, v in full_size.items() if not k.startswith('text_encoder.')}
    args = argparse.Namespace(model=layout, mha='')
    file = dict(model=add_prefix(full_size, module), epoch=39, args=args)
    if layout == 'lavt':
        file.update(model=add_prefix(network, module), bert_model=add_prefix(bert, module))
    ours, _ = checkpoint_to_ours(file)
    assert_same(ours['state_dict'], lavt_to_ours(full_size).state)
    back = checkpoint_from_ours(ours)
    assert back.keys() == file.keys()
    assert (back['epoch'], back['args']) == (39, args)
    for entry in file.keys() & {'model', 'bert_model'}:
        assert_same(add_prefix(back[entry], module), file[entry])


def test_unknown_keys_are_listed_and_kept(weights):
    strange = {'backbone.extra.weight': torch.ones(2), 'text_encoder.pooler.bias': torch.ones(3)}
    found = lavt_to_ours({**weights, **strange})
    assert set(found.unknown) == set(strange)
    assert_same({k: found.extra[k] for k in strange}, strange)
    assert not any('extra' in key or 'pooler' in key for key in found.state)


def test_missing_keys_are_listed(weights):
    gone = ['backbone.layers.1.fusion.image_lang_att.W.0.bias', 'classifier.bn2_3.running_var']
    state = {key: value for key, value in weights.items() if key not in gone}
    assert lavt_to_ours(state).missing == gone
    with pytest.raises(ValueError, match=r'W\.0\.bias.*bn2_3\.running_var'):
        checkpoint_to_ours(dict(model=state))
    with pytest.raises(ValueError, match='has an entry "model"'):
        checkpoint_to_ours(dict(state_dict=state))


def test_model_trained_here(weights):
    state = lavt_to_ours(weights).state
    back = checkpoint_from_ours(dict(state_dict=state))
    assert back['model'].keys() == weights.keys()
    assert all(back['model'][key].eq(0).all() for key in UNUSED)
    with pytest.raises(KeyError, match='fusion.layers'):
        checkpoint_from_ours(dict(state_dict={**state, 'fusion.layers.0.weight': torch.ones(1)}))


def test_command_line(root, weights, tmp_path, monkeypatch, capsys):
    source, ours, back = (tmp_path / name for name in ('a.pth', 'b/ours.pth', 'back.pth'))
    args = argparse.Namespace(lr=5e-5, dataset='refcoco')
    torch.save(dict(model=weights, optimizer={}, epoch=3, args=args, lr_scheduler={}), source)

    def convert(*argv):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, argv)])
        runpy.run_path(str(root / TOOL), run_name='__main__')
        return capsys.readouterr().out

    said = convert(source, ours)
    assert all(name in said for name in (*UNUSED, 'optimizer', 'lr_scheduler'))
    convert(ours, back, '--reverse')
    result = load_file(back)
    assert_same(result['model'], weights)
    assert (result['epoch'], result['args']) == (3, args)
