"""ReLA's decoder, its fusion, and the decision that an expression refers to nothing."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_aml.models.backbones.lavt_swin import LAVTSwinTransformer
from mmseg_aml.models.backbones.swin import SwinTransformer
from mmseg_aml.models.decode_heads.rela_head import ReLAHead, minimap_target
from mmseg_aml.models.decode_heads.rela_layers import Attention
from mmseg_aml.models.fusions.pwam import PWAMFusion
from mmseg_aml.models.no_target import NoTargetHead, has_no_target
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup, TextFeatures, TextImageFeatures

WIDTHS = [8, 16, 32, 64]
SWIN = dict(
    embed_dims=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 4, 8), window_size=4, drop_path_rate=0.0
)
BERT = dict(
    model_type='bert',
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
HEAD = dict(
    type='mmseg_aml.ReLAHead',
    in_channels=WIDTHS,
    channels=32,
    text_channels=24,
    grid=(4, 5),
    num_layers=4,
    num_heads=4,
    inner=48,
    pixel_layers=1,
    pixel_inner=48,
    norm_groups=8,
)


def model_config(**changes) -> dict:
    return (
        dict(
            type='mmseg_aml.TextImageSegmentor',
            data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor', size_divisor=32),
            backbone=dict(type='mmseg_aml.SwinTransformer', norm_outputs=False, **SWIN),
            text_encoder=dict(type='mmseg_aml.HFTextEncoder', tokenizer='tiny', config=BERT),
            fusion=dict(type='mmseg_aml.PWAMFusion', in_channels=WIDTHS, text_channels=24),
            decode_head=HEAD,
        )
        | changes
    )


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = MODELS.build(model_config())
    nn.init.normal_(model.decode_head.language.project.weight, std=0.3)
    return model.eval()


def text_of(expressions: int) -> TextFeatures:
    mask = torch.ones(expressions, 6, dtype=torch.bool)
    mask[1:, 4:] = False
    tokens = torch.randn(expressions, 6, 24)
    return TextFeatures(tokens, mask, tokens[:, 0])


def features_of(expressions: int, dtype=torch.float32) -> TextImageFeatures:
    levels = tuple(
        torch.randn(expressions, width, 16 >> i, 24 >> i, dtype=dtype)
        for i, width in enumerate(WIDTHS)
    )
    text = text_of(expressions)
    text = TextFeatures(text.tokens.to(dtype), text.mask, text.sentence.to(dtype))
    return TextImageFeatures(levels, text, levels)


def samples_of(*masks: torch.Tensor, **meta) -> list[SegDataSample]:
    samples = []
    for row, mask in enumerate(masks):
        sample = SegDataSample(gt_sem_seg=PixelData(data=mask[None]))
        size = tuple(mask.shape)
        sample.set_metainfo(
            dict(image_index=row, expression='red', img_shape=size, ori_shape=size, **meta)
        )
        samples.append(sample)
    return samples


# --- the head --------------------------------------------------------------------


def test_reference_minimaps(reference):
    with np.load(reference / 'rela/small.npz') as file:
        for size in ('480x480', '160x160', '96x224'):
            mask = torch.from_numpy(file[f'mask_{size}'])[None, None]
            assert minimap_target(mask, (10, 10))[0].tolist() == file[f'minimap_{size}'].tolist()


def test_minimap_looks_at_the_centre_of_a_cell():
    mask = torch.zeros(1, 1, 480, 480, dtype=torch.bool)
    mask[..., 48 * 3 + 23 : 48 * 3 + 25, 48 * 7 + 23 : 48 * 7 + 25] = True
    assert minimap_target(mask, (10, 10))[0].nonzero().tolist() == [[37]]
    mask[..., 48 * 3 + 23, 48 * 7 + 23] = False
    assert not minimap_target(mask, (10, 10)).any()


def test_attention_equals_pytorch():
    torch.manual_seed(0)
    attention = Attention(16, 4)
    x, key, value = torch.randn(2, 5, 16), torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    blocked = torch.rand(2, 5, 9) < 0.5
    blocked[..., 0] = False
    ours = attention(x, x, key, value, blocked)
    copied = blocked.repeat_interleave(4, 0)
    theirs = attention.attn(x, key, value, attn_mask=copied, need_weights=False)[0]
    torch.testing.assert_close(ours, attention.norm(x + theirs))


def test_a_region_that_sees_nothing_sees_everything(model):
    layer = model.decode_head.layers[0]
    x, pixels = torch.randn(1, 3, 32), torch.randn(1, 7, 32)
    place = torch.randn(3, 32)
    nothing = torch.ones(1, 3, 7, dtype=torch.bool)
    torch.testing.assert_close(
        layer(x, place, pixels, pixels, nothing), layer(x, place, pixels, pixels, ~nothing)
    )


def test_attention_masks_are_those_of_full_size(model):
    """Masks from resized features = resized masks, as published."""
    head = model.decode_head.double()
    features = torch.randn(2, 32, 16, 24, dtype=torch.float64)
    x = torch.randn(2, 20, 32, dtype=torch.float64)
    small = F.interpolate(features, (4, 6), mode='bilinear').flatten(2)
    regions = head.mask_embed(head.decoder_norm(x))
    masks = torch.einsum('eqc,echw->eqhw', regions, features)
    full = F.interpolate(masks, (4, 6), mode='bilinear').flatten(2)
    torch.testing.assert_close(regions @ small, full)
    blocked = model.float().decode_head.blocked(x.float(), small.float())
    assert blocked.shape == (2, 20, 24)
    assert torch.equal(blocked, (full < 0))


def test_expressions_do_not_see_each_other(model):
    head = model.decode_head
    features = features_of(3)
    together = head(features)
    for e in range(3):
        levels = tuple(level[e : e + 1] for level in features.fused)
        text = TextFeatures(*(part[e : e + 1] for part in features.text))
        alone = head(TextImageFeatures(levels, text, levels))
        for a, b in zip(alone, together):
            torch.testing.assert_close(a[0], b[e], atol=1e-4, rtol=1e-4)


def test_every_parameter_learns_and_losses_are_weighted(model):
    model.train()
    masks = torch.zeros(2, 64, 96, dtype=torch.long)
    masks[0, 8:40, 16:80] = 1
    samples = samples_of(*masks)
    features = model.encode(torch.randn(2, 3, 64, 96), samples)
    output = model.head_forward(features)
    losses = model.supervised_loss(features, samples, output=output)
    assert set(losses) == {'decode.loss_ce', 'decode.loss_minimap', 'decode.loss_no_target'}
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    weight = torch.tensor([0.9, 1.1])
    empty = torch.tensor([0, 1])
    expected = 0.5 * F.cross_entropy(output.no_target, empty, weight=weight)
    torch.testing.assert_close(losses['decode.loss_no_target'], expected)
    cells = minimap_target(masks[:, None] == 1, (4, 5))
    expected = 0.5 * F.cross_entropy(output.minimap.transpose(1, 2), cells, weight=weight)
    torch.testing.assert_close(losses['decode.loss_minimap'], expected)


def test_initial_weights():
    torch.manual_seed(0)
    head = ReLAHead(in_channels=(64, 128, 256, 512))
    assert not head.language.project.weight.any() and head.language.weight == 0
    bound = (6 / (256 + 2048)) ** 0.5  # xavier uniform
    assert float(head.layers[8].ffn.linear1.weight.detach().abs().max()) == pytest.approx(
        bound, rel=0.01
    )
    bound = (3 / (9 * 256)) ** 0.5  # kaiming uniform with a = 1
    largest = head.pixel_decoder.output.conv.weight.detach().abs().max()
    assert float(largest) == pytest.approx(bound, rel=0.01)
    assert float(head.query_feat.weight.detach().std()) == pytest.approx(1, rel=0.05)


# --- vision once per image -----------------------------------------------------------


def test_closed_gates_are_a_tower_without_text():
    torch.manual_seed(0)
    gated = LAVTSwinTransformer(text_channels=24, fusion_heads=(1, 1, 1, 1), **SWIN)
    for gate in gated.gates:
        nn.init.zeros_(gate.fc2.weight)
    plain = SwinTransformer(norm_outputs=False, **SWIN)
    fusion = PWAMFusion(in_channels=WIDTHS, text_channels=24)
    state = gated.state_dict()
    plain.load_state_dict({k: v for k, v in state.items() if k in plain.state_dict()})
    fusion.fusions.load_state_dict(gated.fusions.state_dict())
    for i, norm in enumerate(fusion.norms):
        norm.load_state_dict(getattr(gated, f'norm{i}').state_dict())
    image, text = torch.randn(1, 3, 64, 96), text_of(3)
    together = fusion([level.expand(3, -1, -1, -1) for level in plain(image)], text)
    for ours, published in zip(together, gated(image.expand(3, -1, -1, -1), text)):
        torch.testing.assert_close(ours, published, atol=1e-4, rtol=1e-4)


def test_wrong_numbers_of_levels():
    with pytest.raises(ValueError, match='2 levels need as many heads'):
        PWAMFusion(in_channels=(8, 16), text_channels=4, heads=(1,))
    fusion = PWAMFusion(in_channels=(8, 16), text_channels=24)
    with pytest.raises(ValueError, match='expected 2 levels, got 1'):
        fusion([torch.zeros(1, 8, 4, 4)], text_of(1))


def groups_of(*counts: int) -> list[ExpressionGroup]:
    groups = []
    for count in counts:
        samples = samples_of(*torch.zeros(count, 64, 96, dtype=torch.uint8))
        groups.append(ExpressionGroup(samples))
    return groups


def test_images_are_encoded_once_and_samples_get_the_decision(model):
    seen = []
    model.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    images = [torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)]
    data = dict(inputs=images, data_samples=groups_of(3, 2))
    model.test_cfg = dict(max_expressions=2, with_maps=True)
    with torch.no_grad():
        found = model.test_step(data)
    assert seen == [2] and len(found) == 5
    assert all(isinstance(sample.pred_no_target, bool) for sample in found)
    for sample in found:
        assert sample.maps['minimap'].shape == (4, 5)
        assert sample.maps['strongest region'].shape == (16, 24)
    nn.init.zeros_(model.decode_head.no_target_embed[2].weight)
    for bias, decision in (((0.0, 1.0), True), ((1.0, 0.0), False)):
        model.decode_head.no_target_embed[2].bias.data = torch.tensor(bias)
        with torch.no_grad():
            found = model.test_step(dict(inputs=images, data_samples=groups_of(3, 2)))
        assert [sample.pred_no_target for sample in found] == [decision] * 5


@pytest.mark.parametrize(
    'wrapper', ['AMLLossWrapper', 'MaskRISLossWrapper'], ids=['aml', 'maskris']
)
def test_strategies_mask_it(wrapper):
    torch.manual_seed(0)
    model = MODELS.build(model_config(loss_wrapper=dict(type=f'mmseg_aml.{wrapper}')))
    images = [torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)]
    groups = groups_of(2, 1)
    groups[0].samples[0].gt_sem_seg.data[:, 8:40, 16:80] = 1
    data = model.data_preprocessor(dict(inputs=images, data_samples=groups), True)
    losses = model.loss(**data)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total)
    assert any(key.startswith(('aml.', 'maskris.')) for key in losses)
    masked = model.loss_wrapper.last.masked
    if wrapper == 'AMLLossWrapper':  # nothing to be aligned with: nothing is masked
        assert not masked[1:].any()


# --- no target ---------------------------------------------------------------------


def test_truth_of_no_target():
    full, empty = torch.ones(4, 4, dtype=torch.long), torch.zeros(4, 4, dtype=torch.long)
    ignored = torch.full((4, 4), 255)
    flags = has_no_target(samples_of(full, empty, ignored), torch.zeros(1))
    assert flags.tolist() == [0, 1, 1] and flags.dtype == torch.int64
    # a target that vanished in the resized mask is a target
    assert has_no_target(samples_of(empty, no_target=False), torch.zeros(1)).tolist() == [0]


def plain_model() -> nn.Module:
    return MODELS.build(
        model_config(
            decode_head=dict(
                type='mmseg.FCNHead',
                in_channels=64,
                in_index=3,
                channels=16,
                num_classes=2,
                out_channels=1,
                threshold=0.5,
                norm_cfg=dict(type='BN'),
                loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True),
            ),
            fusion=dict(
                type='mmseg_aml.CrossAttentionFusion', in_channels=WIDTHS, text_channels=24
            ),
            no_target_head=dict(
                type='mmseg_aml.NoTargetHead', in_channels=64, text_channels=24, channels=16
            ),
        )
    )


def test_a_plain_head_with_a_no_target_head():
    torch.manual_seed(0)
    model = plain_model()
    images = [torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=groups_of(2, 1)), True)
    losses = model.loss(**data)
    assert 'no_target.loss_ce' in losses and torch.isfinite(losses['no_target.loss_ce'])
    losses['no_target.loss_ce'].backward()
    assert not [n for n, p in model.no_target_head.named_parameters() if p.grad is None]
    with torch.no_grad():
        found = model.eval().test_step(dict(inputs=images, data_samples=groups_of(2, 1)))
    assert all(isinstance(sample.pred_no_target, bool) for sample in found)


def test_no_target_head_learns_whether_something_is_there():
    torch.manual_seed(0)
    head = NoTargetHead(in_channels=8, text_channels=24, channels=16)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)

    def batch():
        absent = torch.rand(64) < 0.5
        level = torch.randn(64, 8, 6, 6)
        level[~absent, :, 2, 3] += 3  # one pixel that answers
        text = text_of(64)
        return TextImageFeatures((level,), text, (level,)), absent

    for _ in range(60):
        features, absent = batch()
        loss = F.cross_entropy(head(features), absent.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, absent = batch()
    assert float(((head(features).argmax(1) == 1) == absent).float().mean()) > 0.9


def test_two_deciders_are_refused():
    head = dict(type='mmseg_aml.NoTargetHead', in_channels=64, text_channels=24)
    with pytest.raises(ValueError, match='drop no_target_head'):
        MODELS.build(model_config(no_target_head=head))


def test_reference_metrics(reference):
    from mmseg_aml.evaluation.protocols import get_protocol
    from mmseg_aml.evaluation.scores import gres_scores

    stored = json.loads((reference / 'rela/metrics_gres.json').read_text())['all_samples']
    with np.load(reference / 'rela/metrics_gres.npz') as file:
        pred, gt = file['pred'] == 1, file['gt'] == 1
        flags = {name: file[name] for name in ('gt_nt', 'pred_nt', 'source')}
    counts = np.stack([(pred & gt).sum((1, 2)), (pred | gt).sum((1, 2))], 1)
    for source, numbers in stored.items():
        rows = flags['source'] == source if source != 'full' else slice(None)
        scores = gres_scores(
            counts[rows], flags['gt_nt'][rows], flags['pred_nt'][rows], get_protocol('rela-480')
        )
        for name, number in numbers.items():
            if not name.endswith('_acc'):
                assert scores[name] == pytest.approx(number), (source, name)
            elif flags['gt_nt'][rows].any():  # published as a fraction, and 0 without any
                assert scores[name.replace('_', '-')] == pytest.approx(100 * number)
