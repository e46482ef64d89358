"""VIPA, step 1: exact counts, gradients and the loss on relevance."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmseg_aml.models  # noqa: F401
from mmseg_aml.models.decode_heads.vipa_retrieval import (
    gumbel_like,
    relevance_loss,
    retrieval_count,
    retrieve,
)


@settings(max_examples=60, deadline=None)
@given(
    total=st.integers(1, 60),
    cues=st.integers(1, 6),
    ratio=st.floats(0.01, 1),
    sampler=st.sampled_from(['gumbel_topk_st', 'topk_st', 'soft']),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_every_real_cue_retrieves_exactly_its_share(total, cues, ratio, sampler, training, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(3, cues, 8, generator=generator)
    visual = torch.randn(3, total, 8, generator=generator)
    mask = torch.rand(3, cues, generator=generator) < 0.6
    found = retrieve(tokens, mask, visual, ratio=ratio, sampler=sampler, training=training)
    count = retrieval_count(ratio, total)
    assert torch.equal(found.mask.sum(-1), mask * count)
    assert (found.relevance.abs() <= 1 + 1e-5).all()
    torch.testing.assert_close(found.attention.sum(-1), torch.ones(3, cues))
    if sampler != 'soft':
        assert not found.attention[mask][~found.mask[mask]].any()


@pytest.mark.parametrize(
    ('ratio', 'total', 'count'), [(0.3, 225, 68), (0.1, 30, 3), (1.0, 7, 7), (0.01, 4, 1)]
)
def test_retrieval_count(ratio, total, count):
    assert retrieval_count(ratio, total) == count


def test_the_most_relevant_are_retrieved_without_noise():
    visual = torch.eye(4)[None]
    cues = torch.tensor([[[0.9, 0.8, 0.1, 0.0], [0.0, 0.0, -1.0, 1.0]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = retrieve(cues, mask, visual, ratio=0.5)
    assert found.mask[0, 0].tolist() == [True, True, False, False]
    assert found.mask[0, 1, 3] and not found.mask[0, 1, 2]


@pytest.mark.parametrize('sampler', ['gumbel_topk_st', 'topk_st', 'soft'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_gradient_reaches_relevance_in_every_precision(sampler, dtype):
    torch.manual_seed(0)
    cues = torch.randn(2, 3, 8).to(dtype).requires_grad_()
    visual = torch.randn(2, 12, 8).to(dtype)
    mask = torch.ones(2, 3, dtype=torch.bool)
    found = retrieve(cues * 1e3, mask, visual, ratio=0.25, sampler=sampler, training=True)
    assert found.relevance.dtype == found.attention.dtype == torch.float32
    (found.attention @ visual.float()).square().sum().backward()
    assert torch.isfinite(cues.grad).all() and cues.grad.any()


def test_gumbel_noise_is_finite_and_centred_where_it_should_be():
    torch.manual_seed(0)
    noise = gumbel_like(torch.empty(100_000))
    assert torch.isfinite(noise).all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)  # Euler's constant


def test_relevance_loss_counts_real_cues_and_known_pixels_only():
    relevance = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    target = torch.zeros(2, 16, 24, dtype=torch.long)
    target[:, :8, :8] = 1
    scale = torch.tensor(5.0)
    loss = relevance_loss(relevance, mask, target, scale, (4, 6))
    changed = relevance.clone()
    changed[0, 2] = 9.0
    assert torch.equal(relevance_loss(changed, mask, target, scale, (4, 6)), loss)
    each = [
        relevance_loss(relevance[i : i + 1], mask[i : i + 1], target[:1], scale, (4, 6))
        for i in (0, 1)
    ]
    torch.testing.assert_close(loss, torch.stack(each).mean())
    unknown = target.clone()
    unknown[:, :, 12:] = 255
    perfect = torch.full((2, 3, 2, 3), -1.0)
    perfect[:, :, 0, 0] = 1.0
    perfect[..., 2] = 1.0  # wrong, but unknown
    assert relevance_loss(perfect, mask, unknown, torch.tensor(40.0), (2, 3)) < 10
