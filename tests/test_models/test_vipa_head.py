"""VIPA's head: every ablation, no influence of padding, gradients."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmseg_aml.models  # noqa: F401
from mmseg_aml.models.decode_heads.vipa_head import VIPAHead
from mmseg_aml.models.decode_heads.vipa_layers import AttentionBlock
from mmseg_aml.structures import TextFeatures, TextImageFeatures

WIDTHS = [8, 16, 24, 32]
SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]


def make_head(**overrides) -> VIPAHead:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    config = dict(in_channels=WIDTHS, channels=16, text_channels=20, num_heads=4, **overrides)
    return VIPAHead(**config)


def make_features(expressions: int = 2, length: int = 5, seed: int = 0) -> TextImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    levels = tuple(
        torch.randn(expressions, width, *size, generator=generator)
        for width, size in zip(WIDTHS, SIZES)
    )
    tokens = torch.randn(expressions, length, 20, generator=generator)
    mask = torch.arange(length)[None] < torch.tensor([3, 5, 4, 2][:expressions])[:, None]
    return TextImageFeatures(levels, TextFeatures(tokens, mask, tokens[:, 0]), levels)


def make_samples(expressions: int = 2) -> list[SegDataSample]:
    samples = []
    for row in range(expressions):
        mask = torch.zeros(1, 64, 96, dtype=torch.long)
        mask[:, 8 * row : 8 * row + 24, 10:50] = 1
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=mask)))
    return samples


ABLATIONS = [
    dict(),
    dict(expression='language'),
    dict(steps='retrieval'),
    dict(steps='refinement'),
    dict(cues='global'),
    dict(cues='local'),
    dict(ratio=0.1),
    dict(token_level=2),
    dict(sampler='topk_st'),
    dict(sampler='soft'),
    dict(contrast_cues='global'),
    dict(contrast_weight=0.0),
]


@pytest.mark.parametrize('settings', ABLATIONS, ids=str)
def test_every_ablation_trains_all_its_parameters(settings):
    head, features = make_head(**settings), make_features()
    losses = head.loss(features, make_samples(), None)
    retrieves = settings.get('expression') != 'language' and settings.get('steps') != 'refinement'
    contrast = retrieves and settings.get('contrast_weight') != 0
    keys = {'loss_bce', 'loss_dice', 'acc_seg'} | ({'loss_contrast'} if contrast else set())
    assert set(losses) == keys
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    missing = [n for n, p in head.named_parameters() if p.grad is None]
    assert not missing
    output = head.eval()(features)
    assert output.logits.shape == (2, 1, 16, 24)
    assert (output.relevance is not None) == retrieves
    assert bool(head.maps(features)) == retrieves


def test_gradient_of_the_mask_loss_reaches_the_text_through_the_retrieval():
    head, features = make_head(), make_features()
    features.text.tokens.requires_grad_()
    text = features.text._replace(sentence=features.text.tokens[:, 0])
    losses = head.loss(features._replace(text=text), make_samples(), None)
    (losses['loss_bce'] + losses['loss_dice']).backward()
    gradient = features.text.tokens.grad
    assert gradient[features.text.mask].abs().sum(-1).gt(0).all()
    assert not gradient[~features.text.mask].any()


@pytest.mark.parametrize('settings', ABLATIONS, ids=str)
def test_padding_changes_nothing(settings):
    head, features = make_head(**settings).eval(), make_features(length=5)
    tokens = torch.cat([features.text.tokens, torch.full((2, 3, 20), 50.0)], 1)
    tokens[~torch.nn.functional.pad(features.text.mask, (0, 3))] = 50.0
    mask = torch.nn.functional.pad(features.text.mask, (0, 3))
    longer = features._replace(text=TextFeatures(tokens, mask, features.text.sentence))
    torch.testing.assert_close(head(longer).logits, head(features).logits)
    for name, values in head.maps(features).items():
        torch.testing.assert_close(head.maps(longer)[name], values)
    output = head(longer)
    if output.retrieved is not None:
        assert not output.retrieved[~output.cue_mask].any()


def test_batch_equals_one_by_one_and_eval_is_deterministic():
    head, features = make_head().eval(), make_features(4)
    whole = head(features)
    assert torch.equal(whole.logits, head(features).logits)
    for row in range(4):
        one = TextImageFeatures(
            tuple(level[row : row + 1] for level in features.visual),
            TextFeatures(*(part[row : row + 1] for part in features.text)),
            tuple(level[row : row + 1] for level in features.fused),
        )
        torch.testing.assert_close(head(one).logits, whole.logits[row : row + 1])
        assert torch.equal(head(one).retrieved, whole.retrieved[row : row + 1])
        torch.testing.assert_close(
            head(one).relevance, whole.relevance[row : row + 1], rtol=1e-4, atol=1e-6
        )


def test_training_samples_other_tokens_each_time():
    head, features = make_head(), make_features()
    assert not torch.equal(head(features).retrieved, head(features).retrieved)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_trains(dtype):
    head, features = make_head(), make_features()
    with torch.autocast('cpu', dtype=dtype):
        losses = head.loss(features, make_samples(), None)
    total = sum(v for k, v in losses.items() if 'loss' in k)
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_attention_block_follows_its_mask():
    torch.manual_seed(0)
    block = AttentionBlock(8, 2, 2)
    x, memory = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    mask = torch.tensor([True, True, False, True])[None, None]
    changed = memory.clone()
    changed[:, 2] = 7.0
    assert torch.equal(block(x, mask, memory), block(x, mask, changed))


@pytest.mark.parametrize(
    'wrong',
    [
        dict(expression='words'),
        dict(cues='none'),
        dict(steps='one'),
        dict(ratio=0.0),
        dict(sampler='hard'),
        dict(cues='local', contrast_cues='global'),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_head(**wrong)
