"""The CARIS host: its attentions, its parts in a segmentor, grouping, the loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_aml.models.layers import (
    FewFromMany,
    ManyFromFew,
    SelfAttention,
    reference_points,
    sine_positions,
)
from mmseg_aml.models.losses.weighted_ce import WeightedCrossEntropy
from mmseg_aml.registry import MODELS


def tiny_config(**head):
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        backbone=dict(
            type='mmseg_aml.SwinTransformer',
            embed_dims=8,
            depths=(1, 1, 2, 1),
            num_heads=(1, 1, 2, 2),
            window_size=4,
            drop_path_rate=0.0,
        ),
        text_encoder=dict(
            type='mmseg_aml.CARISTextEncoder',
            tokenizer='tiny',
            max_length=8,
            visual_channels=64,
            config=dict(
                model_type='bert',
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=32,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
        ),
        decode_head=dict(
            type='mmseg_aml.CARISHead',
            in_channels=(8, 16, 32, 64),
            channels=16,
            text_channels=16,
            num_layers=2,
            num_heads=2,
            norm_groups=4,
            **head,
        ),
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MODELS.build(tiny_config())
    model.init_weights()
    for layer in model.decode_head.encoder:  # away from the start, where nothing is learnt
        torch.nn.init.normal_(layer.vis_self_attn.sampling_offsets.weight, std=0.3)
    return model


def samples_for(*expressions, size=(64, 64)):
    samples = []
    for image, expression in expressions:
        mask = torch.zeros(1, *size, dtype=torch.uint8)
        mask[:, : size[0] // 2] = 1
        sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
        sample.set_metainfo(
            dict(image_index=image, expression=expression, img_shape=size, ori_shape=size)
        )
        samples.append(sample)
    return samples


def plain_attention(module, queries, keys, values, mask=None):
    """As published: every projection is made."""
    q = module.split(module.q_proj(queries)) * module.scale
    scores = q @ module.split(module.k_proj(keys)).transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float('-inf'))
    out = scores.softmax(-1) @ module.split(module.v_proj(values))
    return module.out_proj(out.transpose(1, 2).flatten(2))


@pytest.mark.parametrize('kind', [SelfAttention, FewFromMany, ManyFromFew])
def test_attentions_equal_the_plain_ones(kind):
    torch.manual_seed(0)
    module = kind(8, heads=2, expansion=4).double()
    few = torch.randn(2, 5, 8, dtype=torch.double, requires_grad=True)
    many = torch.randn(2, 30, 8, dtype=torch.double, requires_grad=True)
    other = torch.randn(2, 30, 8, dtype=torch.double, requires_grad=True)
    mask = torch.arange(5) < torch.tensor([[2], [5]])
    if kind is SelfAttention:
        out, expected = module(few, mask), plain_attention(module, few, few, few, mask)
    elif kind is FewFromMany:
        out, expected = module(few, many, other), plain_attention(module, few, many, other)
    else:
        out, expected = module(many, few, mask), plain_attention(module, many, few, few, mask)
    torch.testing.assert_close(out, expected)
    inputs = [few, many, other, *module.parameters()]
    grads = torch.autograd.grad(out.square().sum(), inputs, allow_unused=True)
    expected_grads = torch.autograd.grad(expected.square().sum(), inputs, allow_unused=True)
    for grad, expected_grad in zip(grads, expected_grads):
        assert (grad is None) == (expected_grad is None)
        if grad is not None:
            torch.testing.assert_close(grad, expected_grad)


def test_position_code_equals_the_stored_one(reference):
    stored = np.load(reference / 'caris/posenc_5x7.npz')
    code = stored['sine'][0]  # (C, 5, 7)
    ours = sine_positions(5, 7, code.shape[0], torch.zeros(()))
    np.testing.assert_allclose(ours.numpy(), code.reshape(code.shape[0], -1).T, atol=1e-6)
    points = reference_points([(5, 7)], torch.zeros(()))
    np.testing.assert_allclose(points.numpy(), stored['refpoints_xy'], atol=1e-6)


def test_every_parameter_learns(model):
    samples = samples_for((0, 'red circle'), (0, 'the green square left'), (1, 'blue'))
    losses = model.supervised_loss(model.encode(torch.randn(2, 3, 64, 64), samples), samples)
    assert list(losses) == ['decode.loss_ce']
    losses['decode.loss_ce'].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_grouped_equals_one_by_one(model):
    model.eval()
    image = torch.randn(1, 3, 64, 96)
    texts = ('red circle', 'the large green square left', 'blue')
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        grouped = model.encode_decode(image, samples_for(*((0, t) for t in texts), size=(64, 96)))
        assert len(calls) == 1
        alone = [model.encode_decode(image, samples_for((0, t), size=(64, 96))) for t in texts]
    torch.testing.assert_close(grouped, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_padding_tokens_do_not_matter(model):
    model.eval()
    image, samples = torch.randn(1, 3, 64, 64), samples_for((0, 'red circle'))
    with torch.no_grad():
        tokens = model.tokenize(samples)
        ids = torch.where(tokens.mask, tokens.ids, 7)
        first, second = (
            model.decode(model.encode(image, samples, tokens=t), samples)
            for t in (tokens, tokens._replace(ids=ids))
        )
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_inference_leaves_padding_out_and_gives_the_same_logits(model):
    samples = samples_for((0, 'red'), (0, 'the large green square left'), (0, 'left'))
    with torch.no_grad():
        tokens = model.tokenize(samples)
        tokens.mask[2] = False
        tokens.mask[2, [0, 4]] = True  # a hole, which no tokenizer makes
        features = model.encode(torch.randn(1, 3, 64, 64), samples, tokens=tokens)
        short = model.decode_head(features)
    assert features.text.mask.sum(1).tolist() == [3, 7, 2]
    with torch.enable_grad():
        whole = model.decode_head(features)
    torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(65, 90), (33, 47), (20, 100)])
def test_any_size(model, size):
    with torch.no_grad():
        features = model.encode(torch.randn(1, 3, *size), samples_for((0, 'red'), size=size))
        logits = model.decode_head(features)
        assert logits.shape == (1, 2, -(-size[0] // 4), -(-size[1] // 4))
        samples = samples_for((0, 'red'), size=size)
        (result,) = model.eval().predict(torch.randn(1, 3, *size), samples)
    assert result.pred_sem_seg.data.shape == (1, *size)


def test_text_depends_on_the_picture_and_checkpointing_changes_nothing(model):
    samples = samples_for((0, 'red circle'), (1, 'red circle'))
    image = torch.randn(2, 3, 64, 64)
    tokens = model.encode(image, samples).text.tokens
    assert not torch.allclose(tokens[0], tokens[1])

    other = MODELS.build(tiny_config(with_cp=True))
    other.load_state_dict(model.state_dict())
    for m in (model, other):
        m.supervised_loss(m.encode(image, samples), samples)['decode.loss_ce'].backward()
    for (name, a), b in zip(model.named_parameters(), other.parameters()):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-7, rtol=1e-4, msg=name)


def test_runs_under_autocast_and_in_inference_mode_before_training(model):
    samples = samples_for((0, 'red circle'), (0, 'blue'))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        model.encode_decode(image, samples)
    expected = model.loss(image, samples)['decode.loss_ce']
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.loss(image, samples)['decode.loss_ce']
    loss.backward()
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('gradients', [True, False])
def test_head_compiles_without_graph_breaks(model, gradients):
    samples = samples_for((0, 'red circle'), (0, 'left'))
    with torch.set_grad_enabled(gradients):
        features = model.encode(torch.randn(1, 3, 64, 64), samples)
        explanation = torch._dynamo.explain(model.decode_head)(features)
    assert explanation.graph_break_count == 0, explanation.break_reasons


def test_a_fusion_is_refused():
    fusion = dict(type='mmseg_aml.CrossAttentionFusion', in_channels=(8, 16, 32, 64))
    with pytest.raises(ValueError, match='CARISHead reads the text itself.*fusion=None'):
        MODELS.build({**tiny_config(), 'fusion': {**fusion, 'text_channels': 16}})


def test_needs_bert():
    config = tiny_config()
    config['text_encoder']['config']['model_type'] = 'roberta'
    with pytest.raises(ValueError, match='needs a BERT'):
        MODELS.build(config)


@pytest.mark.parametrize('repeatable', [False, True])
def test_loss_takes_the_weighted_mean(repeatable, request):
    torch.use_deterministic_algorithms(repeatable)
    request.addfinalizer(lambda: torch.use_deterministic_algorithms(False))
    logits = torch.tensor([[[[0.0, 1.0, 2.0]], [[1.0, 1.0, -2.0]]]])
    target = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)
    loss = WeightedCrossEntropy(class_weight=(0.9, 1.1))
    nll = -logits.log_softmax(1)
    expected = (0.9 * nll[0, 0, 0, 0] + 1.1 * nll[0, 1, 0, 1]) / (0.9 + 1.1)
    assert loss(logits, target).item() == pytest.approx(expected.item())
    assert list(loss.state_dict()) == []

    soft = torch.softmax(torch.randn(1, 2, 1, 3), 1)
    weights = torch.tensor([0.9, 1.1]).view(1, 2, 1, 1)
    expected = (weights * soft * nll).sum() / 3  # by the number of pixels
    assert loss(logits, soft).item() == pytest.approx(expected.item())
    assert F.cross_entropy(logits, soft).item() == pytest.approx(
        WeightedCrossEntropy(class_weight=(1, 1))(logits, soft).item()
    )
    with pytest.raises(ValueError, match='no pixel weights'):
        loss(logits, target, weight=torch.ones(1, 1, 3))
