"""Image towers of transformers: levels, sizes, weights from folders, colours, adapters."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel

from mmseg_aml.models.backbones.hf_backbone import HFBackbone, to_grid
from mmseg_aml.models.backbones.normalization import Normalization, agree, recorded_normalization
from mmseg_aml.registry import MODELS

VIT = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64)
STAGES = dict(depths=[1, 1, 1, 1])
PLAIN = {
    'dinov2': dict(VIT, patch_size=14, image_size=28),
    'dinov2_with_registers': dict(VIT, patch_size=14, image_size=28),
    'dinov3_vit': dict(VIT, patch_size=16, image_size=32),
    'clip_vision_model': dict(VIT, patch_size=16, image_size=32),
    'siglip_vision_model': dict(VIT, patch_size=16, image_size=32),
    'vit': dict(VIT, patch_size=16, image_size=32),
}
STAGED = {
    'swin': dict(STAGES, embed_dim=8, num_heads=[1, 2, 2, 4], window_size=4, image_size=64),
    'convnextv2': dict(STAGES, hidden_sizes=[8, 16, 16, 32]),
    'pvt_v2': dict(STAGES, hidden_sizes=[8, 16, 16, 32], num_attention_heads=[1, 1, 2, 4]),
    'resnet': dict(STAGES, embedding_size=8, hidden_sizes=[8, 8, 16, 32], layer_type='basic'),
}
FAMILIES = {**PLAIN, **STAGED}


def tower(family, **options):
    return HFBackbone(config=dict(model_type=family, **FAMILIES[family]), **options)


@pytest.mark.parametrize('family', FAMILIES)
def test_levels_and_no_idle_parameters(family):
    backbone = tower(family).train()
    levels = backbone(torch.rand(2, 3, 64, 96))
    assert [level.shape[1] for level in levels] == backbone.out_channels
    if family in PLAIN:
        patch = PLAIN[family]['patch_size']
        size = (-(-64 // patch), -(-96 // patch))
        assert [tuple(level.shape[2:]) for level in levels] == [size] * 4
    else:
        assert [tuple(v.shape[2:]) for v in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    sum(level.sum() for level in levels).backward()
    idle = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


@pytest.mark.parametrize('family', PLAIN)
def test_maps_hold_patches_only_and_in_order(family):
    """A change in one patch changes the network's input there: class and register tokens out."""
    backbone = tower(family, out_indices=[1]).eval()
    patch = backbone.patch
    image = torch.zeros(1, 3, 2 * patch, 3 * patch)
    spot = image.clone()
    spot[..., patch:, 2 * patch :] = 3.0
    with torch.no_grad():
        change = (backbone(spot)[0] - backbone(image)[0]).abs().sum(1)[0]
    assert change.shape == (2, 3)
    assert change.argmax() == 5


def test_sides_that_the_patch_does_not_divide_are_scaled_and_not_cut():
    image = torch.rand(1, 3, 480, 448)
    assert to_grid(image, 14).shape == (1, 3, 490, 448)
    assert to_grid(image, 16) is image
    right = torch.zeros(1, 3, 28, 34)
    right[..., -6:] = 1  # lies beyond the last whole patch
    assert to_grid(right, 14)[..., -7:].mean() > 0.9


def test_layers_above_the_last_level_are_not_built():
    backbone = tower('dinov2', out_indices=(1, 3))
    names = [n for n, _ in backbone.named_parameters()]
    assert any('.2.' in n for n in names) and not any('.3.' in n for n in names)
    assert tower('dinov2', out_indices=(-2, -1)).out_indices == [3, 4]


def test_levels_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r'out_indices=\[5\]: swin has stages 1 to 4'):
        tower('swin', out_indices=[5])
    with pytest.raises(ValueError, match='dinov2 has layers 1 to 4'):
        tower('dinov2', out_indices=[0, 9])
    with pytest.raises(ValueError, match='has no stochastic depth'):
        tower('clip_vision_model', drop_path_rate=0.1)
    with pytest.raises(ValueError, match='NaFlex'):
        HFBackbone(config=dict(model_type='siglip2_vision_model'))
    with pytest.raises(ValueError, match='needs a name, or a config'):
        HFBackbone()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A complete CLIP, image and text half, as a hub folder."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('clip')
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config = AutoConfig.for_model(
        'clip', vision_config=PLAIN['clip_vision_model'], text_config=text, projection_dim=8
    )
    AutoModel.from_config(config).save_pretrained(path)
    record = dict(image_mean=[0.48, 0.46, 0.41], image_std=[0.27, 0.26, 0.28])
    (path / 'preprocessor_config.json').write_text(json.dumps(record))
    return path


def test_pretrained_weights_come_from_a_folder(folder):
    backbone = HFBackbone(str(folder))
    backbone.init_weights()
    source = AutoModel.from_pretrained(folder)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        vision = source.vision_model
        hidden = vision(image, output_hidden_states=True).hidden_states[4]
        expected = vision.post_layernorm(hidden)[:, 1:].transpose(1, 2).unflatten(2, (2, 2))
        torch.testing.assert_close(backbone.eval()(image)[-1], expected)


def test_layers_that_are_left_out_are_not_read(folder):
    short = HFBackbone(str(folder), out_indices=[2])
    short.init_weights()
    whole = HFBackbone(str(folder), out_indices=[2, 4])
    whole.init_weights()
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(short.eval()(image)[0], whole.eval()(image)[0])


def test_colours_come_from_the_record_and_contradictions_are_refused(folder):
    recorded = Normalization.of_unit_range([0.48, 0.46, 0.41], [0.27, 0.26, 0.28])
    backbone = HFBackbone(str(folder))
    assert backbone.normalization is not None and not backbone.normalization.differs(recorded)
    preprocessor = dict(type='mmseg_aml.TextImageDataPreprocessor')
    model = MODELS.build(segmentor(dict(type='mmseg_aml.HFBackbone', name=str(folder)), 32))
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(recorded.mean)
    preprocessor.update(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    wrong = segmentor(dict(type='mmseg_aml.HFBackbone', name=str(folder)), 32)
    with pytest.raises(ValueError, match=r'record mean=\[122.4, 117.3, 104.55\]'):
        MODELS.build({**wrong, 'data_preprocessor': preprocessor})
    assert agree(None, object()).mean[0] == 123.675


def test_records_of_other_shapes(tmp_path):
    record = tmp_path / 'preprocessor_config.json'
    record.write_text(json.dumps(dict(do_normalize=False)))
    assert recorded_normalization(str(tmp_path)) == Normalization((0.0,) * 3, (255.0,) * 3)
    record.write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(ValueError, match='preprocessor_config.json does not say'):
        recorded_normalization(str(tmp_path))
    record.unlink()
    assert recorded_normalization(str(tmp_path)) is None


def test_unknown_model_offline_says_how_to_get_it():
    with pytest.raises(OSError, match='hf download no-such/tower .*model.backbone.name'):
        HFBackbone('no-such/tower')


def test_frozen_has_no_gradient_and_stays_in_eval_mode():
    backbone = tower('swin', frozen=True, drop_path_rate=0.5).train()
    image = torch.rand(1, 3, 64, 64)
    first, second = backbone(image)[-1], backbone(image)[-1]
    assert not first.requires_grad and torch.equal(first, second)


@pytest.mark.parametrize('family', ['dinov2', 'clip_vision_model', 'swin'])
def test_activation_checkpointing_changes_no_gradient(family):
    torch.manual_seed(0)
    options = {} if family == 'clip_vision_model' else dict(drop_path_rate=0.0)
    plain = tower(family, **options).train()
    saving = tower(family, with_cp=True, **options).train()
    saving.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 64, 64)
    for backbone in (plain, saving):
        sum(level.square().mean() for level in backbone(image)).backward()
    grads = dict(saving.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(grads[name].grad, parameter.grad)


def test_networks_without_checkpointing_say_so():
    with pytest.raises(ValueError, match='ResNetBackbone cannot checkpoint activations'):
        tower('resnet', with_cp=True)


def segmentor(backbone, channels, **options):
    """FCN over a pyramid of one-stride maps."""
    bert = dict(
        model_type='bert',
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    widths = [channels] * 4
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        backbone=backbone,
        neck=dict(
            type='mmseg.Feature2Pyramid',
            embed_dim=channels,
            rescales=[4, 2, 1, 0.5],
            norm_cfg=dict(type='BN'),
        ),
        text_encoder=dict(type='mmseg_aml.HFTextEncoder', tokenizer='tiny', config=bert),
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=widths, text_channels=32),
        decode_head=dict(
            type='mmseg.FCNHead',
            in_channels=widths,
            in_index=[0, 1, 2, 3],
            input_transform='resize_concat',
            channels=16,
            num_convs=1,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
            loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=True),
        ),
        **options,
    )
