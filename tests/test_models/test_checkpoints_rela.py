"""Released ReLA files to ours and back, and what of them is optimised."""

import gzip
import json
import runpy
import sys
from collections import defaultdict
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

from mmseg_aml.models.checkpoints import load_file
from mmseg_aml.models.checkpoints.rela import (
    LANG_WEIGHT,
    POSITION_IDS,
    checkpoint_from_ours,
    checkpoint_to_ours,
    rela_from_ours,
    rela_to_ours,
)
from mmseg_aml.registry import MODELS

TOOL = 'tools/model_converters/rela_to_mmseg_aml.py'
GATES = [f'backbone.layers.{s}.res_gate.{i}.weight' for s in range(3) for i in (0, 2)]


@pytest.fixture(scope='module')
def full_size(reference):
    """Names and shapes of the real network, as tensors without memory."""
    text = gzip.decompress((reference / 'keys_rela_swinb.txt.gz').read_bytes()).decode()
    state = {}
    for line in text.splitlines():
        if not line.startswith('#'):
            key, shape, dtype = line.partition(' (')[0], line[line.index('(') :], line.split()[-2]
            shape = [int(n) for n in shape[1 : shape.index(')')].split(',') if n.strip()]
            state[key] = torch.empty(shape, dtype=getattr(torch, dtype), device='meta')
    return state


@pytest.fixture(scope='module')
def small(full_size):
    """The same names with one number each, the gates closed: cheap to save and to compare."""
    torch.manual_seed(0)
    return {
        key: torch.zeros(2, 2) if '.res_gate.' in key else torch.randn([4] * value.ndim)
        for key, value in full_size.items()
    }


def on_meta(root, monkeypatch, **changes):
    """The shipped model without memory."""
    config = Config.fromfile(root / 'configs/_base_/models/rela_swin-b.py')
    config.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    cfg = config.model
    bert = dict(model_type='bert', vocab_size=30522)
    cfg.text_encoder.update(name=None, config=bert, tokenizer='tiny')
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))  # drop path
    with torch.device('meta'):
        return MODELS.build(cfg)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].shape == b[key].shape and a[key].dtype == b[key].dtype, key
        assert a[key].is_meta or torch.equal(a[key], b[key]), key


@pytest.mark.parametrize('shared', [True, False])
def test_full_size_fits_both_layouts(root, full_size, monkeypatch, shared):
    assert len(full_size) == 912
    found = rela_to_ours(full_size, shared=shared)
    extra = GATES if shared else []
    assert (found.missing, found.unknown, sorted(found.extra)) == ([], [], sorted(extra))
    assert_same({**rela_from_ours(found.state), **found.extra}, full_size)
    gated = {
        'backbone.type': 'mmseg_aml.LAVTSwinTransformer',
        'backbone.norm_outputs': True,
        'fusion': None,
    }
    model = on_meta(root, monkeypatch, **({} if shared else gated))
    model.load_state_dict(found.state, assign=True)  # strict: names and shapes agree


def test_files_go_both_ways(small):
    file = dict(model=small, optimizer={}, scheduler={}, iteration=149999)
    ours, found = checkpoint_to_ours(file)
    assert ours['meta']['official']['shared'] and sorted(found.extra) == sorted(GATES)
    back = checkpoint_from_ours(ours)
    assert_same(back['model'], small)
    assert back['iteration'] == 149999
    trained_here = checkpoint_from_ours(dict(state_dict=ours['state_dict']))
    assert trained_here['model'].keys() == small.keys()
    assert not any(trained_here['model'][key].any() for key in GATES)


def test_open_gates_need_their_tower(small):
    opened = {**small, GATES[1]: torch.ones(2, 2)}
    ours, found = checkpoint_to_ours(dict(model=opened))
    assert not ours['meta']['official']['shared'] and not found.extra
    assert torch.equal(ours['state_dict']['backbone.gates.0.fc2.weight'], torch.ones(2, 2))
    assert_same(checkpoint_from_ours(ours)['model'], opened)
    ours, _ = checkpoint_to_ours(dict(model=small), keep_gates=True)
    assert 'backbone.gates.0.fc1.weight' in ours['state_dict']


def test_lang_weight_as_the_published_loader(small):
    state = {**small, LANG_WEIGHT: torch.tensor(0.4)}
    ours, _ = checkpoint_to_ours(dict(model=state))
    assert ours['state_dict']['decode_head.language.weight'] == torch.tensor(0.4)
    ours, _ = checkpoint_to_ours(dict(model=state), skip_lang_weight=True)
    assert ours['state_dict']['decode_head.language.weight'] == 0
    assert_same(checkpoint_from_ours(ours)['model'], state)


def test_unknown_and_missing_keys(small):
    strange = {'backbone.extra.weight': torch.ones(2), POSITION_IDS: torch.arange(3)}
    found = rela_to_ours({**small, **strange}, shared=True)
    assert found.unknown == ['backbone.extra.weight'] and strange.keys() <= found.extra.keys()
    gone = [
        'sem_seg_head.predictor.nt_embed.layers.1.bias',
        'text_encoder.embeddings.LayerNorm.bias',
    ]
    with pytest.raises(ValueError, match=r'nt_embed\.layers\.1\.bias.*embeddings\.LayerNorm\.bias'):
        checkpoint_to_ours(dict(model={k: v for k, v in small.items() if k not in gone}))
    with pytest.raises(ValueError, match='has an entry "model"'):
        checkpoint_to_ours(dict(state_dict=small))
    state = rela_to_ours(small, shared=True).state
    with pytest.raises(KeyError, match='loss_wrapper'):
        checkpoint_from_ours(dict(state_dict={**state, 'loss_wrapper.a': torch.ones(1)}))
    del state['decode_head.minimap_embed.bias']
    with pytest.raises(ValueError, match='minimap_embed.bias'):
        checkpoint_from_ours(dict(state_dict=state))


def test_command_line(root, small, tmp_path, monkeypatch, capsys):
    source, ours, back = (tmp_path / name for name in ('a.pth', 'b/ours.pth', 'back.pth'))
    torch.save(dict(model=small, optimizer={}, scheduler={}, iteration=3), source)

    def convert(*argv):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, argv)])
        runpy.run_path(str(root / TOOL), run_name='__main__')
        return capsys.readouterr().out

    said = convert(source, ours)
    assert all(name in said for name in (*GATES, LANG_WEIGHT, 'optimizer', 'scheduler'))
    convert(source, ours, '--skip-lang-weight')
    convert(ours, back, '--reverse')
    assert_same(load_file(back)['model'], small)
    with pytest.raises(SystemExit):
        convert(ours, back, '--reverse', '--keep-gates')


@pytest.mark.parametrize('flavour', ['rela_150k', 'rela_150k_published'])
def test_parameter_groups(root, reference, full_size, monkeypatch, flavour):
    model = on_meta(root, monkeypatch)
    cfg = Config.fromfile(root / f'configs/_base_/schedules/{flavour}.py').optim_wrapper
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=cfg.pop('constructor'),
            paramwise_cfg=cfg.pop('paramwise_cfg'),
            optim_wrapper_cfg=cfg,
        )
    )(model)
    assert wrapper.clip_grad_kwargs == dict(max_norm=0.01)
    name_of = {param: name for name, param in model.named_parameters()}
    ours = defaultdict(set)
    for group in wrapper.optimizer.param_groups:
        assert group['lr'] == 1e-5
        found = {name_of[param]: param for param in group['params']}
        ours[group['weight_decay']] |= rela_from_ours(found).keys()
    text = gzip.decompress((reference / 'rela/param_groups.json.gz').read_bytes())
    published = {group['weight_decay']: set(group['names']) for group in json.loads(text)}
    left_out = published.pop(None)
    if flavour == 'rela_150k':
        published[0.05] |= left_out
    published = {decay: names - set(GATES) for decay, names in published.items()}
    assert ours == published
