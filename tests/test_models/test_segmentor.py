"""TextImageSegmentor with MMSegmentation heads: the three places of fusion, K expressions."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_aml.models.data_preprocessor import TextImageDataPreprocessor, flatten_expressions
from mmseg_aml.models.fusions.cross_attention import CrossAttentionFusion, position_code
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup, TextFeatures, TextImageFeatures

WIDTHS = [16, 32, 64, 128]
SENTENCES = ['the red circle', 'the small blue star on the left', 'leftmost square', 'a ring']
EVERY = dict(in_channels=WIDTHS, in_index=[0, 1, 2, 3])
LAST = dict(in_channels=128, in_index=3)
HEADS = {
    'FCN': dict(type='FCNHead', num_convs=1, concat_input=False, **LAST),
    'UPer': dict(type='UPerHead', pool_scales=(1, 2), **EVERY),
    'Segformer': dict(type='SegformerHead', **EVERY),
    'PSP': dict(type='PSPHead', pool_scales=(1, 2), **LAST),
    'ASPP': dict(type='ASPPHead', dilations=(1, 6), **LAST),
    'FPN': dict(
        type='FPNHead',
        in_channels=[16] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
    ),
    'DepthwiseSeparableASPP': dict(
        type='DepthwiseSeparableASPPHead',
        dilations=(1, 6),
        c1_in_channels=16,
        c1_channels=8,
        in_channels=128,
        in_index=3,
    ),
    'SETRUP': dict(type='SETRUPHead', num_convs=1, up_scale=2, **LAST),
}


def model_of(head: dict, channels: int = 1, **overrides) -> torch.nn.Module:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    one = dict(
        out_channels=1, threshold=0.5, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True)
    )
    two = dict(loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.9, 1.1]))
    fpn = head['type'] == 'FPNHead'
    if fpn:
        overrides['neck'] = dict(type='FPN', in_channels=WIDTHS, out_channels=16, num_outs=4)
    width = [16] * 4 if fpn else WIDTHS
    settings = dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        backbone=dict(
            type='MixVisionTransformer',
            embed_dims=16,
            num_heads=[1, 2, 4, 8],
            num_layers=[1] * 4,
            drop_path_rate=0.0,
        ),
        text_encoder=dict(
            type='mmseg_aml.HFTextEncoder',
            tokenizer='tiny',
            config=dict(
                model_type='bert',
                hidden_size=48,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
            ),
        ),
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=width, text_channels=48),
        decode_head=dict(
            channels=16,
            num_classes=2,
            norm_cfg=dict(type='BN'),
            **(one if channels == 1 else two),
            **head,
        ),
    )
    settings.update(overrides)
    return MODELS.build({key: value for key, value in settings.items() if value is not None})


def batch_of(counts=(2, 1), size=(64, 96), original=(50, 70)) -> dict:
    generator = torch.Generator().manual_seed(0)
    groups = []
    for count in counts:
        samples = []
        for k in range(count):
            meta = dict(expression=SENTENCES[k % 4], ori_shape=original, img_shape=size, sent_id=k)
            sample = SegDataSample(metainfo=meta)
            mask = torch.zeros(1, *size, dtype=torch.uint8)
            mask[:, 8 * k : 8 * k + 24, 16:60] = 1
            sample.gt_sem_seg = PixelData(data=mask)
            samples.append(sample)
        groups.append(ExpressionGroup(samples))
    images = [
        torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for _ in groups
    ]
    return dict(inputs=images, data_samples=groups)


def losses_of(model, data) -> dict:
    return model(**model.data_preprocessor(copy.deepcopy(data), True), mode='loss')


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('strategy', [None, 'mmseg_aml.AMLLossWrapper'])
@pytest.mark.parametrize('head', HEADS)
def test_any_head_trains_and_predicts(head, strategy, channels):
    wrapper = dict(type=strategy) if strategy else None
    model = model_of(HEADS[head], channels, loss_wrapper=wrapper).train()
    total, log = model.parse_losses(losses_of(model, batch_of()))
    total.backward()
    assert torch.isfinite(total) and total > 0
    assert not any('acc_seg' in key for key in log)
    reached = {name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {'backbone', 'text_encoder', 'fusion', 'decode_head'} <= reached
    assert all(p.grad is not None for p in model.fusion.parameters())
    with torch.no_grad():
        samples = model.eval().test_step(batch_of())
    assert [tuple(s.pred_sem_seg.data.shape) for s in samples] == [(1, 50, 70)] * 3
    assert [tuple(s.seg_logits.data.shape) for s in samples] == [(channels, 64, 96)] * 3


def test_the_sentence_matters_and_gets_a_gradient():
    model = model_of(HEADS['UPer']).eval()
    data = batch_of((2,))
    with torch.no_grad():
        first, second = model.test_step(copy.deepcopy(data))
    assert not torch.equal(first.seg_logits.data, second.seg_logits.data)


def test_grouped_expressions_equal_one_by_one_and_chunks():
    model = model_of(HEADS['UPer']).eval()
    data = batch_of((3, 1))
    with torch.no_grad():
        together = model.test_step(copy.deepcopy(data))
        model.test_cfg = dict(max_expressions=2)
        chunked = model.test_step(copy.deepcopy(data))
        alone = [
            model.test_step(
                dict(inputs=[image], data_samples=[ExpressionGroup([copy.deepcopy(sample)])])
            )[0]
            for image, group in zip(data['inputs'], data['data_samples'])
            for sample in group.samples
        ]
    for one, other, third in zip(together, alone, chunked):
        torch.testing.assert_close(one.seg_logits.data, other.seg_logits.data, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one.seg_logits.data, third.seg_logits.data, atol=1e-5, rtol=1e-5)
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)


def test_backbone_runs_once_per_image():
    model = model_of(HEADS['UPer']).eval()
    rows = []
    model.backbone.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    with torch.no_grad():
        model.test_step(batch_of((4, 1)))
    model.train()
    losses_of(model, batch_of((4, 1)))
    assert rows == [2, 2]


def test_a_text_blind_model_is_refused():
    with pytest.raises(ValueError, match='nothing reads the referring expression'):
        model_of(HEADS['UPer'], fusion=None)


def test_a_batch_of_one_explains_itself():
    model = model_of(HEADS['UPer']).train()
    with pytest.raises(ValueError, match='batch of 1 expression .* UPerHead.*drop_last=True'):
        losses_of(model, batch_of((1,)))
    assert losses_of(model, batch_of((2,)))


def test_empty_expression_is_named():
    model, data = model_of(HEADS['UPer']).eval(), batch_of((1,))
    data['data_samples'][0].samples[0].set_metainfo(dict(expression='  ', sent_id=77))
    with pytest.raises(ValueError, match="empty referring expression.*'sent_id': 77"):
        model.test_step(data)


def test_preprocessor_normalises_pads_and_flattens():
    preprocessor = TextImageDataPreprocessor(size_divisor=32)
    data = batch_of((2, 1), size=(40, 60))
    image = data['inputs'][0].float()
    prepared = preprocessor(data, True)
    assert prepared['inputs'].shape == (2, 3, 64, 64)
    expected = (image - preprocessor.mean) / preprocessor.std
    torch.testing.assert_close(prepared['inputs'][0, :, :40, :60], expected)
    assert not prepared['inputs'][:, :, 40:].any() and not prepared['inputs'][..., 60:].any()
    samples = prepared['data_samples']
    assert [s.image_index for s in samples] == [0, 0, 1]
    assert all(s.pad_shape == (64, 64) and s.img_shape == (40, 60) for s in samples)
    truth = samples[0].gt_sem_seg.data
    assert truth.shape == (1, 64, 64) and (truth[:, 40:] == 255).all()
    with pytest.raises(ValueError, match='does not fit'):
        TextImageDataPreprocessor(size=(32, 32))(batch_of(), True)


def test_ground_truth_keeps_its_size_in_evaluation():
    data = batch_of((1,))
    sample = data['data_samples'][0].samples[0]
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 50, 70, dtype=torch.uint8))
    prepared = TextImageDataPreprocessor()(data, False)
    assert prepared['data_samples'][0].gt_sem_seg.data.shape == (1, 50, 70)


def test_padding_is_cut_from_predictions():
    model = model_of(HEADS['UPer']).eval()
    data = batch_of((1,), size=(64, 64))
    other = batch_of((1,), size=(96, 64))
    both = {key: data[key] + other[key] for key in data}
    with torch.no_grad():
        first, second = model.test_step(both)
    assert first.seg_logits.data.shape == (1, 64, 64)
    assert second.seg_logits.data.shape == (1, 96, 64)


def test_auxiliary_head_trains_only():
    aux = dict(
        type='FCNHead',
        in_channels=64,
        in_index=2,
        channels=8,
        num_convs=1,
        num_classes=2,
        out_channels=1,
        threshold=0.5,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.4),
    )
    model = model_of(HEADS['PSP'], auxiliary_head=aux).train()
    assert set(model.fusion.layers) == {'2', '3'}  # only what the heads read
    assert set(losses_of(model, batch_of())) == {'decode.loss_ce', 'aux.loss_ce'}


def test_flatten_accepts_single_samples():
    samples = flatten_expressions([SegDataSample(), ExpressionGroup([SegDataSample()] * 1)])
    assert [s.image_index for s in samples] == [0, 1]


def test_fusion_ignores_padding_tokens_and_wrong_levels_are_named():
    torch.manual_seed(0)
    fusion = CrossAttentionFusion([16, 32], 8, self_attention=[1]).eval()
    visual = (torch.randn(2, 16, 6, 5), torch.randn(2, 32, 3, 3))
    tokens, mask = torch.randn(2, 4, 8), torch.tensor([[True] * 4, [True, True, False, False]])
    other = tokens.clone()
    other[1, 2:] = 99.0
    found = [fusion(visual, TextFeatures(t, mask, t[:, 0])) for t in (tokens, other)]
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)
        assert a.shape in {tuple(v.shape) for v in visual}
    with pytest.raises(ValueError, match='must be among levels'):
        CrossAttentionFusion([16, 32], 8, levels=[0], self_attention=[1])
    with pytest.raises(ValueError, match='head_channels'):
        CrossAttentionFusion([50], 8, head_channels=16)


def test_position_code_tells_every_pixel_apart():
    code = position_code(14, 20, 64, torch.zeros(0))
    assert code.shape == (280, 64)
    distance = torch.cdist(code, code) + torch.eye(280) * 9
    assert distance.min() > 0.05


def test_records_check_their_shapes():
    text = TextFeatures(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4))
    with pytest.raises(ValueError, match='mask'):
        TextFeatures(torch.zeros(2, 3, 4), torch.ones(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match='sentence'):
        TextFeatures(text.tokens, text.mask, torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r'visual\[0\]'):
        TextImageFeatures((torch.zeros(3, 8, 2, 2),), text, ())
