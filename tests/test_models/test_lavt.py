"""LAVT: its fusion, tower and decoder against the equations, and the published network."""

import runpy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_aml.models.backbones import LAVTSwinTransformer
from mmseg_aml.models.decode_heads import LAVTHead
from mmseg_aml.models.fusions.pwam import PWAM, LanguageGate, standardise
from mmseg_aml.structures import TextFeatures

TEXT = 12


def make_text(lengths, channels=TEXT, slots=6, dtype=torch.float32):
    tokens = torch.randn(len(lengths), slots, channels, dtype=dtype)
    mask = torch.arange(slots)[None] < torch.tensor(lengths)[:, None]
    return TextFeatures(tokens, mask, tokens[:, 0])


def make_backbone(**kwargs):
    settings = dict(embed_dims=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_size=3)
    return LAVTSwinTransformer(
        **{**settings, 'drop_path_rate': 0.0, 'text_channels': TEXT, **kwargs}
    )


def naive_pwam(pwam, x, text):
    """The published order of operations, one head at a time, with 1-d convolutions."""

    def conv(linear, y):
        return F.conv1d(y, linear.weight[:, :, None], linear.bias)

    x, words = x.transpose(1, 2), text.tokens.transpose(1, 2)
    mask = text.mask[:, None].to(x.dtype)  # (E, 1, L)
    query = F.instance_norm(conv(pwam.query, x))
    key, value = conv(pwam.key, words) * mask, conv(pwam.value, words) * mask
    channels = x.shape[1]
    heads = []
    for q, k, v in zip(*(t.chunk(pwam.heads, dim=1) for t in (query, key, value))):
        scores = q.transpose(1, 2) @ k * channels**-0.5 + (1e4 * mask - 1e4)
        heads.append(scores.softmax(-1) @ v.transpose(1, 2))
    lang = torch.cat(heads, dim=-1).transpose(1, 2)
    lang = F.instance_norm(conv(pwam.words, lang))
    visual = F.gelu(conv(pwam.visual, x))
    return F.gelu(conv(pwam.out, visual * lang)).transpose(1, 2)


@pytest.mark.parametrize('heads', [1, 2, 4])
@pytest.mark.parametrize('lengths', [(6, 6), (1, 4), (0, 3)])
def test_pwam_follows_the_published_order(heads, lengths):
    double = dict(dtype=torch.float64)
    pwam, x = PWAM(8, TEXT, heads=heads).to(**double), torch.randn(2, 35, 8, **double)
    text = make_text(lengths, **double)
    ours = pwam(x, text)
    theirs = naive_pwam(pwam, x, text)
    torch.testing.assert_close(ours, theirs)
    cotangent = torch.randn_like(ours)
    params = [pwam.query.weight, pwam.key.weight, pwam.value.weight, pwam.words.weight]
    for a, b in zip(
        torch.autograd.grad(ours, params, cotangent), torch.autograd.grad(theirs, params, cotangent)
    ):
        torch.testing.assert_close(a, b)


def test_padding_words_do_not_matter():
    pwam, x, text = PWAM(8, TEXT), torch.randn(2, 20, 8), make_text((2, 5))
    noise = torch.where(text.mask[..., None], text.tokens, torch.randn_like(text.tokens) * 9)
    changed = TextFeatures(noise, text.mask, text.sentence)
    torch.testing.assert_close(pwam(x, text), pwam(x, changed))


def test_standardise():
    x = torch.randn(2, 50, 3, dtype=torch.float64) * 4 + 7
    x[0, :, 1] = 2.5
    out = standardise(x)
    torch.testing.assert_close(out, F.instance_norm(x.mT).mT)
    assert out[0, :, 1].abs().max() == 0
    assert standardise(torch.randn(1, 1, 3)).abs().max() == 0  # a map of one position
    assert standardise(x.bfloat16()).dtype == torch.bfloat16


def test_gate():
    gate, x, fused = LanguageGate(4), torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    weight = torch.tanh((fused @ gate.fc1.weight.T).relu() @ gate.fc2.weight.T)
    torch.testing.assert_close(gate(x, fused), x + weight * fused)
    torch.testing.assert_close(gate(x, torch.zeros_like(x)), x)


def test_bad_settings():
    with pytest.raises(ValueError, match='3 heads do not divide 8'):
        PWAM(8, TEXT, heads=3)
    with pytest.raises(ValueError, match='fusion_heads'):
        make_backbone(fusion_heads=(1, 1))
    with pytest.raises(ValueError, match='out_indices'):
        make_backbone(out_indices=(1, 2, 3))


@pytest.mark.parametrize('size', [(64, 64), (37, 90), (33, 130)])
def test_tower_shapes_and_gradients(size):
    backbone = make_backbone()
    backbone.init_weights()
    levels = backbone(torch.randn(2, 3, *size), make_text((2, 6)))
    height, width = (-(-side // 4) for side in size)
    for i, level in enumerate(levels):
        assert level.shape == (2, 8 * 2**i, height, width)
        height, width = -(-height // 2), -(-width // 2)
    sum((level * torch.randn_like(level)).sum() for level in levels).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_expressions_do_not_see_each_other():
    double = dict(dtype=torch.float64)
    backbone, image = make_backbone().eval().to(**double), torch.randn(3, 3, 48, 40, **double)
    text = make_text((2, 6, 1), **double)
    together = backbone(image, text)
    for e in range(3):
        one = TextFeatures(*(part[e : e + 1] for part in text))
        for alone, batch in zip(backbone(image[e : e + 1], one), together):
            torch.testing.assert_close(alone[0], batch[e])


def test_checkpointing_changes_nothing():
    plain, saving = make_backbone(), make_backbone(with_cp=True)
    saving.load_state_dict(plain.state_dict())
    image, text = torch.randn(2, 3, 40, 40), make_text((3, 6))
    for model in (plain, saving):
        sum(level.square().mean() for level in model(image, text)).backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_initial_weights():
    torch.manual_seed(0)
    backbone = make_backbone(embed_dims=32, num_heads=(1, 2, 4, 8))
    backbone.init_weights()
    assert float(backbone.gates[2].fc1.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    bound = backbone.fusions[3].query.weight.shape[1] ** -0.5  # PyTorch's default is uniform
    assert float(backbone.fusions[3].query.weight.detach().abs().max()) == pytest.approx(
        bound, rel=0.05
    )
    assert backbone.fusions[3].query.bias.abs().max() > 0


def naive_head(head, levels):
    x = levels[-1]
    for level, fine in zip(head.levels, levels[-2::-1]):
        x = F.interpolate(x, fine.shape[2:], mode='bilinear', align_corners=True)
        x = torch.cat([x, fine], dim=1)
        for conv, norm in ((level.conv1, level.norm1), (level.conv2, level.norm2)):
            x = F.relu(norm(F.conv2d(x, conv.weight, padding=1)))
    return head.conv_seg(x)


def test_head():
    head = LAVTHead((8, 16, 32, 64))
    levels = [torch.randn(2, 8 * 2**i, 17 >> i, 20 >> i) for i in range(4)]
    torch.testing.assert_close(head(levels), naive_head(head, levels))
    assert head.align_corners and head.channels == 32
    assert head(levels).shape == (2, 2, 17, 20)
    convs = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    before = [conv.weight.clone() for conv in convs]
    head.init_weights()  # PyTorch's default initialisation stays
    assert all(torch.equal(conv.weight, old) for conv, old in zip(convs, before))


def test_equals_the_published_network(shared, root):
    check = runpy.run_path(str(root / 'tests/parity/check.py'))
    report = check['check'](shared / 'parity/lavt')
    assert set(report) >= {'a', 'b'}
    for case, found in report.items():
        assert {'logits', 'loss', 'logits_train', 'loss_train'} <= {item.name for item in found}
        for item in found:
            assert item.ok, f'{case}: {item}'
