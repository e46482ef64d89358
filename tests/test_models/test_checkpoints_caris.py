"""Released CARIS, MaskRIS, AMLRIS, Swin and BERT files to ours and back."""

import argparse
import gzip
import runpy
import sys
from functools import partial

import pytest
import torch
from mmengine.config import Config

from mmseg_aml.models.checkpoints import KeyTable, add_prefix, load_file, state_of, with_prefix
from mmseg_aml.models.checkpoints.caris import (
    caris_from_ours,
    caris_to_ours,
    checkpoint_from_ours,
    checkpoint_to_ours,
)
from mmseg_aml.registry import MODELS

TOOL = 'tools/model_converters/caris_to_mmseg_aml.py'
LOSS = 'criterion.seg_criterion.weight'


@pytest.fixture(scope='module')
def weights(shared):
    """The small CARIS of the reference folder."""
    return torch.load(shared / 'parity/caris/state_dict.pt', weights_only=True)


@pytest.fixture(scope='module')
def releases(shared, weights):
    """The three releases of the small network."""
    network = {k: v for k, v in weights.items() if k != LOSS}
    aug = torch.load(shared / 'parity/amlris/aug_state_dict.pt', weights_only=True)
    aml = {**network, **aug, 'criterion.ce_loss.weight': weights[LOSS]}
    token = {'backbone.vis_encoder.mask_token': torch.randn(1, 1, 16)}
    return {'CARIS': weights, 'MaskRIS': {**weights, **token}, 'AMLRIS': aml}


def full_size(reference, release):
    """Names and shapes of a real model, as tensors without memory."""
    state = {}
    lines = gzip.decompress((reference / f'keys_{release}.txt.gz').read_bytes()).decode()
    for line in lines.splitlines():
        if not line.startswith('#'):
            key, rest = line.split(' (')
            shape, dtype = rest.split(')')
            shape = [int(n) for n in shape.split(',') if n.strip()]
            state[key] = torch.empty(shape, dtype=getattr(torch, dtype.strip()), device='meta')
    return state


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert a[key].shape == b[key].shape and a[key].dtype == b[key].dtype, key
        assert a[key].is_meta or torch.equal(a[key], b[key]), key


@pytest.mark.parametrize('release', ['caris', 'maskris', 'amlris'])
def test_full_size_fits_the_shipped_config(root, reference, release, monkeypatch):
    official = full_size(reference, release)
    found = caris_to_ours(official)
    assert (found.missing, found.unknown) == ([], [])
    assert_same({**caris_from_ours(found.state), **found.extra}, official)

    cfg = Config.fromfile(root / 'configs/_base_/models/caris_swin-b.py').model
    bert = dict(model_type='bert', vocab_size=30522)
    cfg.text_encoder.update(name=None, config=bert, tokenizer='tiny')
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))  # drop path
    with torch.device('meta'):
        model = MODELS.build(cfg)
    model.load_state_dict(found.state, assign=True)  # strict: names and shapes agree


@pytest.mark.parametrize('release', ['CARIS', 'MaskRIS', 'AMLRIS'])
@pytest.mark.parametrize('module', ['', 'module.'])
def test_files_round_trip(releases, release, module):
    args = argparse.Namespace(model='caris', lr=1e-4)
    file = dict(model=add_prefix(releases[release], module), epoch=49, args=args)
    ours, found = checkpoint_to_ours(file)
    assert ours['meta']['official']['layout'] == release and found.unknown == []
    back = checkpoint_from_ours(ours)
    assert_same(back['model'], releases[release])
    assert (back['epoch'], back['args']) == (49, args)


def test_unknown_is_kept_and_missing_is_refused(weights):
    lost = [
        'backbone.vis_encoder.layers.1.blocks.0.norm1.weight',
        'pixel_decoder.encoder.1.gamma_l2v',
    ]
    state = {**weights, 'pixel_decoder.encoder.0.new': torch.ones(2)}
    _, found = checkpoint_to_ours(state)
    assert found.unknown == ['pixel_decoder.encoder.0.new'] and LOSS in found.extra
    for key in lost:
        del state[key]
    with pytest.raises(ValueError, match='not a complete CARIS file') as error:
        checkpoint_to_ours(dict(model=state))
    assert all(key in str(error.value) for key in lost)
    with pytest.raises(ValueError, match='expected weights of CARIS'):
        checkpoint_to_ours({'fc.weight': torch.ones(1)})
    with pytest.raises(KeyError, match='aux'):
        caris_from_ours({'aux.weight': torch.ones(1)})


def test_swin_files(weights):
    tower = with_prefix(weights, 'backbone.vis_encoder.')
    extra = {'head.weight': torch.ones(3, 2), 'norm.bias': torch.ones(2)}
    extra['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 49, 49)
    file = {k: v for k, v in tower.items() if not k.startswith('norm')}
    file.update(extra, odd=torch.ones(1))
    ours, found = checkpoint_to_ours(dict(model=file))
    assert found.unknown == ['odd'] and found.extra.keys() == {*extra, 'odd'}
    assert all(key.startswith('backbone.') for key in found.state)
    assert_same(checkpoint_from_ours(ours)['model'], file)


@pytest.mark.parametrize('old', [True, False])
def test_bert_files(weights, old):
    file = with_prefix(weights, 'backbone.lang_encoder.')
    file['pooler.dense.weight'] = torch.ones(2)
    if old:  # Google's names, as in the first files of bert-base-uncased
        file = {
            'bert.' + k.replace('Norm.weight', 'Norm.gamma').replace('Norm.bias', 'Norm.beta'): v
            for k, v in file.items()
        }
        file['cls.predictions.transform.LayerNorm.gamma'] = torch.ones(2)
    ours, found = checkpoint_to_ours(file)
    assert found.unknown == [] and len(found.extra) == 1 + old
    expected = caris_to_ours(weights).state
    assert_same(found.state, {k: v for k, v in expected.items() if '.model.' in k})
    assert_same(checkpoint_from_ours(ours)['model'], file)


def test_tool(root, tmp_path, releases, monkeypatch, capsys):
    official, ours, back = (tmp_path / name for name in ('a.pth', 'ours.pth', 'back.pth'))
    file = dict(model=releases['AMLRIS'], optimizer={}, epoch=3, args=argparse.Namespace(lr=0.1))
    torch.save(file, official)
    for argv in ([official, ours], [ours, back, '--reverse']):
        monkeypatch.setattr(sys, 'argv', [TOOL, *map(str, argv)])
        runpy.run_path(str(root / TOOL), run_name='__main__')
    printed = capsys.readouterr().out
    assert 'weights of AMLRIS' in printed and 'aug.text_proj.weight' in printed
    assert 'not converted (1):\n  optimizer' in printed
    torch.load(ours, weights_only=True)  # MMEngine reads it without further permissions
    result = load_file(back)
    assert_same(state_of(result), releases['AMLRIS'])
    assert result['args'].lr == 0.1


def test_reading_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        load_file(tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='dict of tensors'):
        state_of({'epoch': 3})


def test_key_table():
    table = KeyTable('a.#.{x,y}  b.{0,2}.w')
    keys = ['a.0.x', 'a.0.y', 'a.2.x', 'b.0.w', 'b.1.w', 'c']
    assert table.unknown(keys) == ['b.1.w', 'c']
    assert table.missing(keys) == ['a.1.x', 'a.1.y', 'a.2.y', 'b.2.w']
    assert table.missing([]) == ['a.#.x', 'a.#.y', 'b.0.w', 'b.2.w']
