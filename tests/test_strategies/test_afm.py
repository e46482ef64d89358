"""Block filters: parity with the release, and what must hold for any map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_aml.strategies.afm import (
    AFM,
    ReleaseAFM,
    apply_blocks,
    block_grid,
    choose,
    pool_blocks,
    redistribute,
    release_blocks,
    spare_target,
    upsample_scores,
    valid_pixels,
)


@pytest.mark.parametrize('planted', [0, 1, 3, 12, 49])
def test_release_masks_equal_the_published_ones(shared, planted):
    stored = np.load(shared / 'parity/amlris/mask_function.npz')
    scores = torch.from_numpy(stored[f'scores_{planted}']).amax(-1).unflatten(1, (7, 7))
    draws = [
        torch.from_numpy(stored[key]).long()
        for key in sorted(k for k in stored.files if k.startswith(f'perm_{planted}_'))
    ]

    def permute(count):
        draw = draws.pop(0)
        assert len(draw) == count
        return draw

    masked = release_blocks(scores, (224, 224), 0.4, permute)
    assert not draws
    np.testing.assert_array_equal(~masked.numpy(), stored[f'kept_{planted}'])


def test_release_refuses_what_it_cannot_cut():
    with pytest.raises(ValueError, match='square images divisible by 32'):
        ReleaseAFM()(torch.rand(1, 7, 7), (224, 192))


sizes = st.tuples(st.integers(1, 130), st.integers(1, 130))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    block=st.integers(5, 40),
    ratio=st.floats(0, 1),
    cap=st.floats(0, 1),
    share=st.floats(0.2, 1),
    seed=st.integers(0, 2**31),
)
def test_nothing_aligned_and_no_padding_is_masked(size, grid, block, ratio, cap, share, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(3, *grid, generator=generator)
    inside = tuple(max(1, int(side * share)) for side in size)
    afm = AFM(threshold=0.5, ratio=ratio, block_size=block, max_area=cap)
    masked = afm(scores, size, valid_sizes=[inside] * 3, generator=generator)
    assert masked.shape == (3, *block_grid(size, block))
    black = apply_blocks(torch.ones(3, 3, *size), masked, block)[:, 0] == 0
    valid = valid_pixels([inside] * 3, size, scores.device)
    assert (upsample_scores(scores, size)[black & valid] < 0.5).all()
    blocks = pool_blocks(valid, block, 'max') > 0
    assert not (masked & ~blocks).any()
    weak = afm.weak(scores, size, valid).flatten(1).sum(1)
    count = masked.flatten(1).sum(1)
    assert (count <= weak * ratio).all()
    assert (count <= blocks.flatten(1).sum(1) * cap).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), keep=st.floats(0, 1))
def test_keep_target_keeps_its_share(seed, keep):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.rand(2, 64, 96, generator=generator) < 0.3
    afm = AFM(threshold=2.0, ratio=1.0, block_size=16, keep_target=keep)
    masked = afm(torch.rand(2, 4, 6), (64, 96), targets=targets, generator=generator)
    covered = (pool_blocks(targets, 16, 'sum') * masked).flatten(1).sum(1)
    assert (covered <= (1 - keep) * targets.flatten(1).sum(1) + 1e-3).all()


def test_padding_pixels_change_nothing():
    scores = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    afm = AFM(threshold=0.5, ratio=1.0, block_size=32)
    small = afm(scores, (128, 128), generator=torch.Generator().manual_seed(1))
    padded = torch.cat([scores, torch.zeros(1, 4, 4)], 2)
    large = afm(
        padded, (128, 256), valid_sizes=[(128, 96)], generator=torch.Generator().manual_seed(1)
    )
    assert not large[:, :, 3:].any()
    assert torch.equal(large[:, :, :3], small[:, :, :3])


def test_quantile_is_per_image():
    scores = torch.stack([torch.linspace(0, 0.1, 16), torch.linspace(0.8, 1, 16)]).view(2, 4, 4)
    afm = AFM(quantile=0.5, ratio=1.0, block_size=32)
    masked = afm(scores, (128, 128))
    assert (masked.flatten(1).sum(1) > 0).all()
    assert not AFM(threshold=0.4, ratio=1.0)(scores, (128, 128))[1].any()


def test_pixel_selection_masks_nearly_every_weak_block():
    scores = torch.zeros(1, 7, 7)
    assert AFM(select='pixel', ratio=0.25)(scores, (224, 224)).all()


def test_choose_and_spare_target_on_tiny_cases():
    candidates = torch.tensor([[True, True, False, True]])
    draws = torch.tensor([[0.9, 0.1, 0.0, 0.5]])
    assert choose(candidates, torch.tensor([2]), draws).tolist() == [[False, True, False, True]]
    masked, target = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[6.0, 3.0, 1.0]])
    draws = torch.tensor([[0.3, 0.2, 0.1]])
    assert spare_target(masked, target, 0.6, draws).tolist() == [[False, True, True]]


def test_random_control_keeps_the_area():
    generator = torch.Generator().manual_seed(0)
    masked = torch.rand(200, 7, 7, generator=generator) < 0.3
    valid = torch.ones_like(masked)
    moved = redistribute(masked, valid, torch.rand(masked.shape, generator=generator))
    assert torch.equal(moved.flatten(1).sum(1), masked.flatten(1).sum(1))
    # Every block is hit about equally often, wherever the map pointed.
    assert moved.float().mean(0).std() < 0.06


@pytest.mark.parametrize('wrong', [dict(ratio=1.5), dict(select='pixels'), dict(max_area=-1)])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AFM(**wrong)
