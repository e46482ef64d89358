"""Backbone, neck and head of the photograph models."""

import pytest
import torch
from torch import nn

from mmseg_aml.models.backbones import EfficientNetLite0, FrozenBackbone
from mmseg_aml.models.decode_heads import WordQueryHead
from mmseg_aml.models.necks import PixelEncoder
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures, TextImageFeatures


def test_lite0_levels_and_strides():
    net = EfficientNetLite0((2, 4, 6, 7)).eval()
    levels = net(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [
        (40, 8, 12),
        (112, 4, 6),
        (320, 2, 3),
        (1280, 2, 3),
    ]
    classifier = 1281 * 1000
    assert sum(p.numel() for p in net.parameters()) + classifier == 4_652_008  # as published


def test_lite0_builds_no_layers_that_nobody_reads():
    names = EfficientNetLite0((2, 4)).state_dict()
    assert not any(name.startswith(('stages.5', 'stages.6', 'stages.7')) for name in names)
    with pytest.raises(ValueError, match='out_indices'):
        EfficientNetLite0((8,))


def test_lite0_reads_a_release_by_order(tmp_path):
    release = EfficientNetLite0((7,)).state_dict()
    named = {
        f'_released.{i}': torch.randn_like(v.float()).to(v.dtype)
        for i, v in enumerate(release.values())
    }
    named['_fc.weight'] = torch.zeros(1000, 1280)
    torch.save(named, tmp_path / 'lite0.pth')
    net = EfficientNetLite0((2, 4), pretrained=str(tmp_path / 'lite0.pth'))
    net.init_weights()
    for ours, theirs in zip(net.state_dict().values(), named.values()):
        assert torch.equal(ours, theirs)
    torch.save({'a': torch.zeros(3)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'other\.pth does not hold'):
        EfficientNetLite0(pretrained=str(tmp_path / 'other.pth')).init_weights()


def test_lite0_keeps_its_statistics():
    net = EfficientNetLite0((2,)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@MODELS.register_module()
class CountingBackbone(nn.Module):
    """Two levels; counts the pictures it computes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.pictures = 0

    def forward(self, x):
        self.pictures += len(x)
        level = self.norm(self.conv(x))
        return level, level[..., ::2, ::2]


@pytest.fixture
def frozen(tmp_path):
    torch.manual_seed(0)
    return FrozenBackbone(dict(type='CountingBackbone'), cache=str(tmp_path / 'cache')).train()


def test_known_pictures_are_read(frozen):
    x = torch.randn(3, 3, 8, 8)
    first = frozen(x)
    again = frozen(x[[2, 0, 1]])
    assert frozen.model.pictures == 3
    plain = frozen.model(x)
    for level, other, true in zip(first, again, plain):
        assert torch.equal(level[[2, 0, 1]], other)
        torch.testing.assert_close(level, true, atol=2e-3, rtol=2e-3)  # kept in float16
        assert level.dtype == torch.float32 and not level.requires_grad


def test_only_new_pictures_are_computed(frozen):
    x = torch.randn(3, 3, 8, 8)
    frozen(x[:2])
    frozen(x)
    assert frozen.model.pictures == 3


def test_other_weights_are_another_memory(frozen):
    x = torch.randn(1, 3, 8, 8)
    before = frozen(x)[0]
    frozen.load_state_dict({k: v * 2 for k, v in frozen.state_dict().items()})
    assert not torch.equal(frozen(x)[0], before)
    assert frozen.model.pictures == 2


def test_damaged_memory_is_computed_again(frozen):
    x = torch.randn(1, 3, 8, 8)
    right = frozen(x)[0]
    for path in frozen.cache.iterdir():
        path.write_bytes(b'half a file')
    assert torch.equal(frozen(x)[0], right)


def test_frozen_passes_on_the_colours_of_its_weights(frozen):
    lite = FrozenBackbone(dict(type='mmseg_aml.EfficientNetLite0'))
    assert lite.normalization == ((127.0,) * 3, (128.0,) * 3)
    assert frozen.normalization is None


def test_published_settings_name_nothing_of_this_machine(frozen, tmp_path):
    from mmseg_aml.apis.hub import _name_nothing

    inner = dict(type='mmseg_aml.EfficientNetLite0', pretrained='efficientnet-lite0')
    settings = dict(type='mmseg_aml.FrozenBackbone', backbone=inner, cache=str(tmp_path))
    _name_nothing(settings, MODELS.build(settings))
    assert settings == dict(
        type='mmseg_aml.FrozenBackbone', backbone=dict(type='mmseg_aml.EfficientNetLite0')
    )


def test_frozen_has_no_gradient_and_no_training_mode(frozen):
    assert not frozen.model.training and not any(p.requires_grad for p in frozen.parameters())
    with pytest.raises(ValueError, match='does not read text'):
        FrozenBackbone(
            dict(
                type='mmseg_aml.LAVTSwinTransformer', text_channels=8, embed_dims=24, depths=[1] * 4
            )
        )


def text(expressions: int, length: int = 5) -> TextFeatures:
    mask = torch.ones(expressions, length, dtype=torch.bool)
    mask[0, 3:] = False
    tokens = torch.randn(expressions, length, 12)
    return TextFeatures(tokens, mask, tokens[:, 0])


def levels(count: int, channels: int = 16) -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(count, channels, s, s + 2) for s in (8, 4, 2))


def head(**settings) -> WordQueryHead:
    torch.manual_seed(0)
    return WordQueryHead(in_channels=[16] * 3, text_channels=12, **settings)


def test_neck_gives_one_width_and_uses_all_parameters():
    neck = PixelEncoder((3, 5, 7), 16).train()
    shapes = [(2, c, s, s + 2) for c, s in zip((3, 5, 7), (8, 4, 2))]
    out = neck([torch.randn(shape) for shape in shapes])
    assert [x.shape[1] for x in out] == [16] * 3
    assert [x.shape[2:] for x in out] == [shape[2:] for shape in shapes]
    torch.cat([x.flatten() for x in out]).square().sum().backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_neck_knows_places():
    neck = PixelEncoder((3, 5, 7), 16).eval()
    out = neck([torch.ones(1, c, 4, 4) for c in (3, 5, 7)])
    assert all((x.flatten(2).std(-1) > 0).any() for x in out)


@pytest.mark.parametrize('settings', [dict(attend=(3,)), dict(heads=5)])
def test_neck_refuses(settings):
    with pytest.raises(ValueError, match='levels that are not among|do not divide'):
        PixelEncoder((3, 5, 7), 16, **settings)


def test_head_predicts_a_mask_per_layer_last_first():
    net = head(num_layers=2).eval()
    visual, words = levels(3), text(3)
    both = net(TextImageFeatures(visual, words, visual))
    assert [x.shape for x in both] == [(3, 1, 8, 10)] * 2
    shorter = head(num_layers=1).eval()
    shorter.load_state_dict(net.state_dict(), strict=False)
    alone = shorter(TextImageFeatures(visual, words, visual))
    torch.testing.assert_close(alone[0], both[1])


def test_padding_words_change_nothing():
    net = head().eval()
    visual, words = levels(2), text(2)
    other = words.tokens.clone()
    other[0, 3:] = 100.0
    changed = TextFeatures(other, words.mask, words.sentence)
    for a, b in zip(
        net(TextImageFeatures(visual, words, visual)),
        net(TextImageFeatures(visual, changed, visual)),
    ):
        torch.testing.assert_close(a, b)


def test_head_needs_equal_widths():
    with pytest.raises(ValueError, match='equal width'):
        WordQueryHead(in_channels=[16, 32])


def test_head_learns_which_object_is_meant():
    """Two levels with two marked cells; the sentence says which."""
    torch.manual_seed(0)
    net = WordQueryHead(in_channels=[16] * 2, text_channels=4, num_layers=1, dropout=0.0)
    fine = torch.zeros(2, 16, 4, 4)
    fine[:, 0, :2], fine[:, 1, 2:] = 3.0, 3.0
    truth = torch.zeros(2, 4, 4)
    truth[0, :2], truth[1, 2:] = 1.0, 1.0
    tokens = torch.eye(4)[:2, None].repeat(1, 3, 1)
    words = TextFeatures(tokens, torch.ones(2, 3, dtype=torch.bool), tokens[:, 0])
    features = TextImageFeatures((fine, fine), words, (fine, fine))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        logits = net(features)[0][:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((net(features)[0][:, 0] > 0) == truth.bool()).all()
