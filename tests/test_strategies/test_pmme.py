"""PMME: the published formula, its degeneracy, and what must not change it."""

import pytest
import torch
import torch.nn.functional as F

from mmseg_aml.strategies.pmme import PMME, UntrainedLinear, gaussian_projection
from mmseg_aml.structures import TextFeatures, TextImageFeatures


def features(expressions=3, length=8, real=5, visual=24, text=16, seed=0, grid=(4, 6)):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(expressions, length, text, generator=generator)
    mask = torch.arange(length)[None].expand(expressions, -1) < real
    levels = (torch.randn(expressions, visual, *grid, generator=generator),)
    return TextImageFeatures(levels, TextFeatures(tokens, mask, tokens[:, 0]), levels)


def test_scores_follow_the_published_formula():
    given, pmme = features(real=8), PMME(dim=64, temperature=0.1, seed=3)
    w_i = gaussian_projection(24, 64, 3, 64**-0.5)
    w_t = gaussian_projection(16, 64, 4, 64**-0.5)
    for e in range(3):
        v = F.normalize(given.visual[0][e].flatten(1).T, dim=-1)  # (N, C)
        t = F.normalize(given.text.tokens[e], dim=-1)
        expected = ((v @ w_i) @ (t @ w_t).T / 0.1).softmax(-1).amax(-1)
        torch.testing.assert_close(pmme(given)[e].flatten(), expected)


@pytest.mark.parametrize('estimator', [PMME(dim=32), PMME(dim=32, shared=True)])
def test_padding_tokens_change_nothing(estimator):
    short, long = features(length=5), features(length=5)
    padding = torch.full((3, 4, 16), 7.0)
    text = TextFeatures(
        torch.cat([long.text.tokens, padding], 1),
        torch.cat([long.text.mask, torch.zeros(3, 4, dtype=torch.bool)], 1),
        long.text.sentence,
    )
    padded = TextImageFeatures(long.visual, text, long.fused)
    torch.testing.assert_close(estimator(short), estimator(padded))


@pytest.mark.parametrize('estimator', [PMME(dim=32), UntrainedLinear()])
def test_batch_equals_one_by_one(estimator):
    given = features()
    together = estimator(given)
    assert together.shape == (3, 4, 6)
    assert ((together >= 0) & (together <= 1)).all()
    for e in range(3):
        text = TextFeatures(*(part[e : e + 1] for part in given.text))
        levels = tuple(level[e : e + 1] for level in given.visual)
        alone = estimator(TextImageFeatures(levels, text, levels))
        torch.testing.assert_close(alone[0], together[e])


def test_the_formula_as_written_is_degenerate_and_the_temperature_mends_it():
    given = features(expressions=8, length=20, real=20, visual=1024, text=768, grid=(14, 14))
    literal = PMME(temperature=1.0)(given)
    assert literal.max() < 0.1  # so every pixel is below 0.4
    weak = (PMME()(given) < 0.4).float().mean()
    assert 0.2 < weak < 0.8


def test_independent_projections_carry_no_signal_and_a_shared_one_does():
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(1, 64, 20, 20, generator=generator)
    tokens = torch.randn(1, 6, 64, generator=generator)
    text = TextFeatures(tokens, torch.ones(1, 6, dtype=torch.bool), tokens[:, 0])
    given = TextImageFeatures((visual,), text, (visual,))
    cosine = F.normalize(visual.flatten(2).transpose(1, 2), dim=-1) @ F.normalize(tokens, dim=-1).mT

    def correlation(estimator):
        logits = estimator.probabilities(given).log()
        centred = cosine - cosine.mean(-1, keepdim=True)
        logits = logits - logits.mean(-1, keepdim=True)
        return torch.corrcoef(torch.stack([centred.flatten(), logits.flatten()]))[0, 1]

    assert abs(correlation(PMME(temperature=1.0))) < 0.15
    assert correlation(PMME(temperature=1.0, shared=True)) > 0.95


def test_projections_are_the_same_everywhere_and_in_no_checkpoint():
    given = features()
    torch.manual_seed(1)
    first = PMME(dim=32)(given)
    torch.manual_seed(2)
    assert torch.equal(PMME(dim=32)(given), first)
    pmme = PMME(dim=32)
    pmme(given)
    assert not pmme.state_dict() and not list(pmme.parameters())
    assert not torch.equal(PMME(dim=32, seed=1)(given), first)


def test_bf16_features_and_autocast_score_in_float32():
    given = features()
    half = TextImageFeatures(tuple(v.bfloat16() for v in given.visual), given.text, given.fused)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert PMME(dim=32)(half).dtype == torch.float32


def test_a_projection_of_another_network_is_refused():
    estimator = UntrainedLinear()
    estimator.load_projection(torch.zeros(8, 16), torch.zeros(8))
    with pytest.raises(ValueError, match='aug.text_proj'):
        estimator(features())
