"""Block filters: parity with the release, and what must hold for any map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_aml.strategies.aml.afm import AFM
from mmseg_aml.strategies.aml.literal import LiteralAFM
from mmseg_aml.strategies.aml.release import ReleaseAFM, release_blocks
from mmseg_aml.strategies.masking.blocks import (
    block_grid,
    choose,
    pool_blocks,
    redistribute,
    spared_blocks,
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


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_release_refuses_what_it_cannot_cut(canvas):
    with pytest.raises(ValueError, match='square images divisible by 32'):
        ReleaseAFM()(torch.rand(1, 7, 7), canvas((224, 192)), seeded())


sizes = st.tuples(st.integers(1, 130), st.integers(1, 130))


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    block=st.integers(5, 40),
    ratio=st.floats(0, 1),
    share=st.floats(0.2, 1),
    seed=st.integers(0, 2**31),
)
def test_weak_blocks_hold_a_weak_pixel_and_no_padding_is_masked(
    canvas, size, grid, block, ratio, share, seed
):
    generator = seeded(seed)
    scores = torch.rand(3, *grid, generator=generator)
    inside = tuple(max(1, int(side * share)) for side in size)
    view = canvas(size, inside=[inside] * 3)
    found = AFM(threshold=0.5, ratio=ratio, block_size=block)(scores, view, generator)
    assert found.masked.shape == found.weak.shape == (3, *block_grid(size, block))
    low = (upsample_scores(scores, size, view.valid) < 0.5) & view.valid
    assert torch.equal(found.weak, pool_blocks(low, block, 'max') > 0)
    assert not (found.masked & ~found.weak).any()
    weak, count = (part.flatten(1).sum(1) for part in (found.weak, found.masked))
    assert torch.equal(count, (weak * ratio).floor())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), keep=st.floats(0, 1))
def test_keep_target_keeps_its_share(canvas, seed, keep):
    generator = seeded(seed)
    targets = torch.rand(2, 64, 96, generator=generator) < 0.3
    afm = AFM(threshold=2.0, ratio=1.0, block_size=16, keep_target=keep)
    view = canvas((64, 96), 2, targets=targets)
    masked = afm(torch.rand(2, 4, 6), view, generator).masked
    covered = (pool_blocks(targets, 16, 'sum') * masked).flatten(1).sum(1)
    assert (covered <= (1 - keep) * targets.flatten(1).sum(1) + 1e-3).all()


@pytest.mark.parametrize('seed', range(20))
def test_keep_target_takes_no_mask_from_the_background(canvas, seed):
    """Whatever is drawn first, the masked share is the asked one while there are blocks."""
    targets = torch.zeros(1, 128, 128, dtype=torch.bool)
    targets[:, :32, :64] = True  # 2 of 16 blocks
    view = canvas((128, 128), targets=targets)
    afm = AFM(threshold=2.0, ratio=0.75, block_size=32, keep_target=1.0)
    masked = afm(torch.rand(1, 4, 4), view, seeded(seed)).masked
    assert masked.sum() == 12 and not masked[0, 0, :2].any()


def test_padding_pixels_change_nothing(canvas):
    scores = torch.rand(1, 4, 3, generator=seeded())
    afm = AFM(threshold=0.5, ratio=1.0, block_size=32)
    small = afm(scores, canvas((128, 96)), seeded(1))
    padded = torch.cat([scores, torch.zeros(1, 4, 5)], 2)
    large = afm(padded, canvas((128, 256), inside=[(128, 96)]), seeded(1))
    for one, other in ((small.masked, large.masked), (small.weak, large.weak)):
        assert not other[:, :, 3:].any()
        assert torch.equal(other[:, :, :3], one)


def test_quantile_is_per_image(canvas):
    scores = torch.stack([torch.linspace(0, 0.1, 16), torch.linspace(0.8, 1, 16)]).view(2, 4, 4)
    afm, view = AFM(quantile=0.5, ratio=1.0, block_size=32), canvas((128, 128), 2)
    assert afm(scores, view, seeded()).masked.flatten(1).sum(1).tolist() == [8, 8]
    assert not AFM(threshold=0.4, ratio=1.0)(scores, view, seeded()).masked[1].any()


def test_one_low_pixel_makes_a_block_weak_in_every_filter(canvas):
    """``weak`` means one thing; only what is drawn among the weak blocks differs."""
    scores = torch.full((1, 7, 7), 0.7)
    scores[0, 3, 3] = 0.0
    view = canvas((224, 224))
    found = [part(scores, view, seeded()) for part in (AFM(ratio=1.0), LiteralAFM(), ReleaseAFM())]
    for other in found[1:]:
        assert torch.equal(found[0].weak, other.weak)
    assert found[0].weak[0, 3, 3] and found[0].weak.sum() == 5  # its neighbours hold low pixels


def test_the_literal_filter_masks_nearly_every_weak_block(canvas):
    assert LiteralAFM()(torch.zeros(1, 7, 7), canvas((224, 224)), seeded()).masked.all()


def test_choose_and_spare_target_on_tiny_cases():
    candidates = torch.tensor([[True, True, False, True]])
    draws = torch.tensor([[0.9, 0.1, 0.0, 0.5]])
    assert choose(candidates, torch.tensor([2]), draws).tolist() == [[False, True, False, True]]
    target = torch.tensor([[6.0, 3.0, 0.0, 1.0]])
    draws = torch.tensor([[0.3, 0.2, 0.0, 0.1]])
    assert spared_blocks(target, 0.4, draws).tolist() == [[False, True, False, True]]
    assert spared_blocks(target, 0.5, draws).tolist() == [[True, True, False, True]]


def test_random_control_keeps_the_area_also_of_cut_blocks():
    generator = seeded()
    masked = torch.rand(300, 4, 4, generator=generator) < 0.3
    valid = valid_pixels([(100, 110)] * 300, (128, 128), masked.device)
    area = pool_blocks(valid, 32, 'sum')
    masked &= area > 0
    moved = redistribute(masked, area, torch.rand(masked.shape, generator=generator))
    assert torch.equal((area * moved).flatten(1).sum(1), (area * masked).flatten(1).sum(1))
    # Every block is hit about equally often, wherever the map pointed.
    pointed = torch.zeros(300, 4, 4, dtype=torch.bool)
    pointed[:, 0, :2] = True
    moved = redistribute(pointed, area, torch.rand(masked.shape, generator=generator))
    assert moved[:, :3, :3].float().mean(0).std() < 0.05


@pytest.mark.parametrize(
    'wrong',
    [
        dict(ratio=1.5),
        dict(keep_target=-1),
        dict(quantile=0.5, threshold=0.3),
        dict(select='pixel'),
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        AFM(**wrong)
