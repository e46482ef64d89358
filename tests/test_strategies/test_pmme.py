"""PMME: the published formula, its degeneracy, and what must not change it."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mmseg_aml.engine.checkpoints import CheckpointError
from mmseg_aml.strategies.aml.pmme import PMME
from mmseg_aml.strategies.aml.release import UntrainedLinear
from mmseg_aml.strategies.study.maps import SharedPMME
from mmseg_aml.structures import TextFeatures, TextImageFeatures


def scores(estimator, given):
    return estimator(SimpleNamespace(features=given)).scores


def features(expressions=3, length=8, real=5, visual=24, text=16, seed=0, grid=(4, 6)):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(expressions, length, text, generator=generator)
    mask = torch.arange(length)[None].expand(expressions, -1) < real
    levels = (torch.randn(expressions, visual, *grid, generator=generator),)
    return TextImageFeatures(levels, TextFeatures(tokens, mask, tokens[:, 0]), levels)


def test_scores_follow_the_published_formula():
    given, pmme = features(real=8), PMME(dim=64, temperature=0.1, seed=3)
    generator = torch.Generator().manual_seed(3)
    w_i, w_t = (torch.randn(c, 64, generator=generator) / 8 for c in (24, 16))
    for e in range(3):
        v = F.normalize(given.visual[0][e].flatten(1).T, dim=-1)  # (N, C)
        t = F.normalize(given.text.tokens[e], dim=-1)
        expected = ((v @ w_i) @ (t @ w_t).T / 0.1).softmax(-1).amax(-1)
        torch.testing.assert_close(scores(pmme, given)[e].flatten(), expected)


@pytest.mark.parametrize('estimator', [PMME(dim=32), SharedPMME(dim=32)])
def test_padding_tokens_change_nothing(estimator):
    short, long = features(length=5), features(length=5)
    padding = torch.full((3, 4, 16), 7.0)
    text = TextFeatures(
        torch.cat([long.text.tokens, padding], 1),
        torch.cat([long.text.mask, torch.zeros(3, 4, dtype=torch.bool)], 1),
        long.text.sentence,
    )
    padded = TextImageFeatures(long.visual, text, long.fused)
    torch.testing.assert_close(scores(estimator, short), scores(estimator, padded))


@pytest.mark.parametrize('estimator', [PMME(dim=32), UntrainedLinear()])
def test_batch_equals_one_by_one(estimator):
    given = features()
    together = scores(estimator, given)
    assert together.shape == (3, 4, 6)
    assert ((together >= 0) & (together <= 1)).all()
    for e in range(3):
        text = TextFeatures(*(part[e : e + 1] for part in given.text))
        levels = tuple(level[e : e + 1] for level in given.visual)
        alone = scores(estimator, TextImageFeatures(levels, text, levels))
        torch.testing.assert_close(alone[0], together[e])


def test_the_formula_as_written_is_degenerate_and_the_temperature_mends_it():
    given = features(expressions=8, length=20, real=20, visual=1024, text=768, grid=(14, 14))
    literal = scores(PMME(temperature=1.0), given)
    assert literal.max() < 0.1  # so every pixel is below 0.4
    weak = (scores(PMME(), given) < 0.4).float().mean()
    assert 0.2 < weak < 0.8


def test_independent_projections_carry_no_signal_and_a_shared_one_does():
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(1, 64, 20, 20, generator=generator)
    tokens = torch.randn(1, 6, 64, generator=generator)
    text = TextFeatures(tokens, torch.ones(1, 6, dtype=torch.bool), tokens[:, 0])
    given = TextImageFeatures((visual,), text, (visual,))
    cosine = F.normalize(visual.flatten(2).transpose(1, 2), dim=-1) @ F.normalize(tokens, dim=-1).mT

    def correlation(estimator):
        logits = estimator.shares(given).log()
        centred = cosine - cosine.mean(-1, keepdim=True)
        logits = logits - logits.mean(-1, keepdim=True)
        return torch.corrcoef(torch.stack([centred.flatten(), logits.flatten()]))[0, 1]

    assert abs(correlation(PMME(temperature=1.0))) < 0.15
    assert correlation(SharedPMME(temperature=1.0)) > 0.95


def test_projections_are_the_same_everywhere_and_in_no_checkpoint():
    given = features()
    torch.manual_seed(1)
    first = scores(PMME(dim=32), given)
    torch.manual_seed(2)
    assert torch.equal(scores(PMME(dim=32), given), first)
    pmme = PMME(dim=32)
    scores(pmme, given)
    assert not pmme.state_dict() and not list(pmme.parameters())
    assert not torch.equal(scores(PMME(dim=32, seed=1), given), first)


def test_bf16_features_and_autocast_score_in_float32():
    given = features()
    half = TextImageFeatures(tuple(v.bfloat16() for v in given.visual), given.text, given.fused)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert scores(PMME(dim=32), half).dtype == torch.float32


def test_the_released_projection_is_read_and_must_fit(tmp_path):
    given = features()
    weight, bias = torch.randn(24, 16), torch.randn(24)
    released = {'module.aug.text_proj.weight': weight, 'module.aug.text_proj.bias': bias}
    torch.save(dict(model=released), tmp_path / 'release.pth')
    estimator = UntrainedLinear(checkpoint=str(tmp_path / 'release.pth'))
    words = F.linear(given.text.tokens, weight, bias)
    expected = (given.visual[0].flatten(2).mT @ words.mT).softmax(-1).amax(-1)
    torch.testing.assert_close(scores(estimator, given).flatten(1), expected)
    with pytest.raises(ValueError, match='give the release that belongs to this network'):
        scores(estimator, features(visual=8))
    torch.save(dict(model=dict(other=weight)), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='other.pth has no aug.text_proj.weight'):
        UntrainedLinear(checkpoint=str(tmp_path / 'other.pth'))
