"""Deformable attention against mmcv's reference, and its start values."""

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

from mmseg_aml.models.layers import DeformableAttention, reference_points, sample_bags, sample_grid
from mmseg_aml.models.layers.deformable_attention import sample_compiled

SIZES = [(2, 3), (5, 4), (7, 9)]
TOKENS = sum(h * w for h, w in SIZES)


def draw(batch, queries, heads=2, width=4, points=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    shape = (batch, queries, heads, len(SIZES), points)
    value = torch.randn(batch, TOKENS, heads, width, generator=g, dtype=torch.double)
    # far outside, on the border cells, and inside
    locations = torch.rand(*shape, 2, generator=g, dtype=torch.double) * 3 - 1
    weights = torch.randn(shape, generator=g, dtype=torch.double)
    return [t.requires_grad_() for t in (value, locations, weights)]


def ours(sample, value, locations, weights):
    x, y = locations.unbind(-1)
    return sample(value, SIZES, x, y, weights)


@pytest.mark.parametrize('sample', [sample_grid, sample_bags])
@pytest.mark.parametrize('batch, queries', [(1, 1), (2, TOKENS), (3, 5)])
def test_equals_mmcv_in_value_and_gradient(sample, batch, queries):
    inputs = draw(batch, queries)
    out = ours(sample, *inputs)
    expected = multi_scale_deformable_attn_pytorch(inputs[0], torch.tensor(SIZES), *inputs[1:])
    torch.testing.assert_close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('sample', [sample_grid, sample_bags])
@pytest.mark.parametrize('at', [-1e6, -1.0, -0.5, 0.0, 6.5, 7.0, 8.0, 1e6])
def test_borders_and_beyond(sample, at):
    """A row of ones: the sample is the share of the cell that lies inside."""
    value = torch.ones(1, 8, 1, 1)
    one = torch.ones(1, 1, 1, 1, 1)
    out = sample(value, [(1, 8)], one * (at + 0.5) / 8, one * 0.5, one)
    share = np.clip(min(at + 1, 8 - at), 0, 1)
    assert out.item() == pytest.approx(share)


@pytest.mark.parametrize('sample', [sample_grid, sample_bags])
def test_nan_stays_nan(sample):
    one = torch.ones(1, 1, 1, 1, 1)
    assert sample(torch.ones(1, 8, 1, 1), [(2, 4)], one * torch.nan, one, one * torch.nan).isnan()


def test_reference_points_are_centres():
    points = reference_points([(1, 2), (2, 1)], torch.zeros(()))
    assert points.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_start_values():
    module = DeformableAttention(16, heads=8, levels=3, points=4)
    offsets = module.sampling_offsets.bias.view(8, 3, 4, 2)
    assert module.sampling_offsets.weight.eq(0).all()
    for point in range(4):  # head 0 points right, head 1 to the lower right, head 2 down
        assert offsets[0, 1, point].tolist() == pytest.approx([point + 1, 0])
        assert offsets[1, 2, point].tolist() == pytest.approx([point + 1, point + 1])
        assert offsets[2, 0, point].tolist() == pytest.approx([0, point + 1], abs=1e-6)
    assert module.attention_weights.weight.eq(0).all()
    assert module.value_proj.bias.eq(0).all()


def test_module_reads_its_own_cell_without_offsets():
    module = DeformableAttention(8, heads=2, levels=1, points=1)
    torch.nn.init.zeros_(module.sampling_offsets.bias)
    tokens = torch.randn(2, 12, 8)
    out = module(tokens, reference_points([(3, 4)], tokens), tokens, [(3, 4)])
    torch.testing.assert_close(out, module.output_proj(module.value_proj(tokens)))


def test_training_and_inference_agree():
    module = DeformableAttention(8, heads=2, levels=1, points=2)
    torch.nn.init.normal_(module.sampling_offsets.weight)
    tokens = torch.randn(2, 12, 8)
    args = (tokens, reference_points([(3, 4)], tokens), tokens, [(3, 4)])
    with torch.no_grad():
        inferred = module(*args)
    torch.testing.assert_close(module(*args), inferred)


def test_compiled_op_gets_what_it_needs(monkeypatch):
    """mmcv's op asks for contiguous tensors and a batch that is a multiple of its step."""

    class Op:
        @staticmethod
        def apply(value, shapes, starts, locations, weights, step):
            assert all(t.is_contiguous() for t in (value, locations, weights))
            assert starts.tolist() == [0, 12] and len(value) % step == 0
            return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)

    monkeypatch.setattr('mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction', Op)
    module = DeformableAttention(8, heads=2, levels=2, points=2)
    tokens, sizes = torch.randn(3, 16, 8), [(3, 4), (2, 2)]
    args = (tokens, reference_points(sizes, tokens), tokens, sizes)
    expected = module(*args)
    monkeypatch.setattr(module, 'sampler', lambda value: sample_compiled)
    torch.testing.assert_close(module(*args), expected)


def test_runs_in_fp32_under_autocast():
    module = DeformableAttention(8, heads=2, levels=1, points=2)
    tokens = torch.randn(1, 12, 8)
    points = reference_points([(3, 4)], tokens)
    expected = module(tokens, points, tokens, [(3, 4)])
    with torch.autocast('cpu', torch.bfloat16):
        out = module(tokens, points, tokens.bfloat16().float(), [(3, 4)])
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=2e-2, rtol=0)


def test_heads_must_divide():
    with pytest.raises(ValueError, match='3 heads do not divide 8'):
        DeformableAttention(8, heads=3, levels=1, points=1)
