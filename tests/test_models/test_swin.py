"""The Swin tower: against the published one, against mmseg's, and its official files."""

import argparse

import numpy as np
import pytest
import torch
from mmseg.models.backbones import SwinTransformer as MMSegSwin

from mmseg_aml.models.backbones import SwinTransformer
from mmseg_aml.models.checkpoints import (
    merging_from_ours,
    merging_to_ours,
    resize_bias_table,
    swin_from_ours,
    swin_to_ours,
    with_prefix,
)

TINY = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8))


def build(**kwargs):
    backbone = SwinTransformer(**{**TINY, 'drop_path_rate': 0.0, **kwargs})
    backbone.init_weights()
    return backbone.eval()


@pytest.fixture(scope='module')
def official(shared):
    state = torch.load(shared / 'parity/caris/state_dict.pt')
    return {k: v for k, v in with_prefix(state, 'backbone.vis_encoder.').items()}


@pytest.mark.parametrize('case', ['a', 'b'])
def test_equals_the_published_tower(shared, official, case):
    backbone = build()
    backbone.load_state_dict(swin_to_ours(official))
    io = np.load(shared / f'parity/caris/io_{case}.npz')
    with torch.no_grad():
        outs = backbone(torch.from_numpy(io['image']).float())
    for i, tolerance in enumerate((4e-3, 4e-3, 1e-5, 1e-5)):  # v1, v2 are stored as float16
        np.testing.assert_allclose(outs[i].numpy(), io[f'v{i + 1}'], atol=tolerance)


@pytest.mark.parametrize('window', [7, 12])
@pytest.mark.parametrize('size', [(112, 112), (37, 53), (130, 1), (28, 28), (99, 161)])
def test_equals_mmseg_in_value_and_gradient(window, size):
    ours = build(window_size=window)
    theirs = MMSegSwin(**TINY, window_size=window, drop_path_rate=0.0)
    theirs.eval()
    theirs.load_state_dict(ours.state_dict())  # the same names
    image = torch.randn(2, 3, *size)
    for out, expected in zip(ours(image), theirs(image)):
        torch.testing.assert_close(out, expected, atol=2e-5, rtol=1e-4)
    for model in (ours, theirs):
        sum(level.square().mean() for level in model(image)).backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name].grad, atol=2e-5, rtol=1e-3, msg=name
        )


def test_checkpointing_and_shallow_outputs_change_nothing():
    plain, saved = build(), build(with_cp=True, out_indices=(1, 3))
    saved.load_state_dict(plain.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 96)
    expected, outs = plain(image), saved.train()(image)
    assert torch.equal(outs[0], expected[1]) and torch.equal(outs[1], expected[3])
    outs[1].mean().backward()
    assert saved.patch_embed.projection.weight.grad is not None


def test_hook_after_a_stage_feeds_merging_and_output():
    backbone, image = build(), torch.randn(1, 3, 64, 64)
    seen = []

    def after_stage(stage, x, size):
        seen.append((stage, tuple(x.shape), size))
        return x * 0, x

    outs = backbone.forward_stages(image, after_stage)
    assert seen[1] == (1, (1, 64, 32), (8, 8))
    torch.testing.assert_close(outs[0], backbone(image)[0])
    other = backbone.forward_stages(torch.randn(1, 3, 64, 64), after_stage)
    torch.testing.assert_close(outs[1], other[1])  # nothing of the image got past stage 0


def test_biases_are_drawn_and_drop_path_rises():
    backbone = SwinTransformer(**TINY, drop_path_rate=0.3)
    backbone.init_weights()
    table = backbone.stages[0].blocks[0].attn.w_msa.relative_position_bias_table
    assert 0.01 < table.std() < 0.03
    rates = [b.attn.drop.drop_prob for s in backbone.stages for b in s.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 8), atol=1e-6)


def test_merging_order_and_round_trip(official):
    phases = torch.arange(4).repeat_interleave(3)  # official: phase-major, C = 3
    assert merging_to_ours(phases).tolist() == [0, 2, 1, 3] * 3
    assert torch.equal(merging_from_ours(merging_to_ours(phases)), phases)
    back = swin_from_ours(swin_to_ours(official))
    assert list(back) == list(official)
    assert all(torch.equal(back[key], official[key]) for key in official)


@pytest.mark.parametrize('wrap', ['model', 'state_dict', None])
def test_loads_an_official_classification_file(tmp_path, official, wrap):
    state = {k: v for k, v in official.items() if not k.startswith(('norm0', 'norm1'))}
    state.update({'head.weight': torch.ones(2, 2), 'norm.bias': torch.ones(2)})
    state['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 49, 49)
    args = argparse.Namespace(lr=1.0)
    torch.save({wrap: state, 'args': args} if wrap else state, tmp_path / 'swin.pth')
    from mmseg_aml.models.checkpoints import load_swin

    backbone = build()
    report = load_swin(backbone, tmp_path / 'swin.pth')
    assert report.unexpected == ['head.weight', 'norm.bias', 'stages.0.blocks.1.attn_mask']
    assert set(report.missing) == {f'norm{i}.{p}' for i in (0, 1) for p in ('weight', 'bias')}
    weight = backbone.stages[0].blocks[0].attn.w_msa.qkv.weight
    assert torch.equal(weight, official['layers.0.blocks.0.attn.qkv.weight'].float())


def test_resizes_bias_tables_and_refuses_another_width(tmp_path, official):
    torch.save(dict(official), tmp_path / 'swin.pth')
    backbone = SwinTransformer(
        **TINY, window_size=12, init_cfg=dict(type='Pretrained', checkpoint=tmp_path / 'swin.pth')
    )
    backbone.init_weights()
    table = official['layers.0.blocks.0.attn.relative_position_bias_table'].float()
    ours = backbone.stages[0].blocks[0].attn.w_msa.relative_position_bias_table
    assert ours.shape == (23 * 23, 1)
    torch.testing.assert_close(ours.detach(), resize_bias_table(table, 23 * 23))

    wide = SwinTransformer(
        embed_dims=32, init_cfg=dict(type='Pretrained', checkpoint=tmp_path / 'swin.pth')
    )
    with pytest.raises(ValueError, match='choose the config of that Swin size'):
        wide.init_weights()


def test_compiles_without_graph_breaks():
    import torch._dynamo

    explanation = torch._dynamo.explain(build())(torch.randn(1, 3, 64, 96))
    assert explanation.graph_break_count == 0, explanation.break_reasons
