"""VIPA: exact retrieval, no influence of padding, gradients, every ablation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

import mmseg_aml.models  # noqa: F401
from mmseg_aml.models.decode_heads.vipa_head import VIPAHead
from mmseg_aml.models.decode_heads.vipa_layers import AttentionBlock
from mmseg_aml.models.decode_heads.vipa_retrieval import (
    gumbel_like,
    relevance_loss,
    retrieval_count,
    retrieve,
)
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup, TextFeatures, TextImageFeatures

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


# --- retrieval ---------------------------------------------------------------


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


# --- the head ----------------------------------------------------------------

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


# --- in a segmentor ----------------------------------------------------------

TEXT = dict(
    type='mmseg_aml.HFTextEncoder',
    tokenizer='tiny',
    config=dict(
        model_type='bert',
        hidden_size=20,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
)
SWIN = dict(
    embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4, drop_path_rate=0.0
)
LEVELS = [8, 16, 32, 64]
HOSTS = dict(
    none=dict(backbone=dict(type='mmseg_aml.SwinTransformer', **SWIN)),
    late=dict(
        backbone=dict(type='mmseg_aml.SwinTransformer', **SWIN),
        fusion=dict(
            type='mmseg_aml.CrossAttentionFusion',
            in_channels=LEVELS,
            text_channels=20,
            head_channels=8,
        ),
    ),
    early=dict(backbone=dict(type='mmseg_aml.LAVTSwinTransformer', text_channels=20, **SWIN)),
)


def make_model(host: str, **overrides) -> nn.Module:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    head = dict(
        type='mmseg_aml.VIPAHead', in_channels=LEVELS, channels=16, text_channels=20, num_heads=4
    )
    return MODELS.build(
        dict(
            type='mmseg_aml.TextImageSegmentor',
            data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
            text_encoder=TEXT,
            decode_head=head,
            **HOSTS[host],
            **overrides,
        )
    )


def make_batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    groups, images = [], []
    for expressions in (['the red circle', 'a blue star'], ['left square']):
        samples = []
        for sample, expression in zip(make_samples(len(expressions)), expressions):
            sample.set_metainfo(dict(expression=expression, ori_shape=(64, 96), img_shape=(64, 96)))
            samples.append(sample)
        groups.append(ExpressionGroup(samples))
        images.append(torch.randint(256, (3, 64, 96), generator=generator, dtype=torch.uint8))
    return dict(inputs=images, data_samples=groups)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('strategy', [None, 'AMLLossWrapper', 'MaskRISLossWrapper'])
def test_hosts_and_strategies_train_and_predict(host, strategy):
    wrapper = None if strategy is None else dict(type=f'mmseg_aml.{strategy}')
    model = make_model(host, loss_wrapper=wrapper, test_cfg=dict(with_maps=True)).train()
    losses = model(**model.data_preprocessor(make_batch(), True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing
    with torch.no_grad():
        predictions = model.eval().test_step(make_batch())
    assert len(predictions) == 3
    for sample in predictions:
        assert sample.pred_sem_seg.data.shape == (1, 64, 96)
        assert all(values.shape == (2, 3) for values in sample.maps.values())


def test_maps_are_drawn():
    import numpy as np

    from mmseg_aml.visualization.visualizer import RISVisualizer

    model = make_model('early', test_cfg=dict(with_maps=True)).eval()
    with torch.no_grad():
        sample = model.test_step(make_batch())[0]
    assert set(sample.maps) == {'retrieved', 'relevance of the sentence', 'relevance of the words'}
    image = np.zeros((64, 96, 3), dtype=np.uint8)
    drawn = RISVisualizer().draw(image, sample)
    sample.set_field({}, 'maps')
    assert drawn.size > RISVisualizer().draw(image, sample).size


def test_maps_are_refused_where_there_are_none():
    head = dict(
        type='SegformerHead', in_channels=LEVELS, in_index=[0, 1, 2, 3], channels=8, num_classes=2
    )
    with pytest.raises(ValueError, match='with_maps'):
        init_default_scope('mmseg')
        MODELS.build(
            dict(
                type='mmseg_aml.TextImageSegmentor',
                text_encoder=TEXT,
                decode_head=head,
                test_cfg=dict(with_maps=True),
                **HOSTS['early'],
            )
        )
