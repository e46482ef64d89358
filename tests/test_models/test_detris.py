"""DETRIS: towers, text, geometry, and what is shared by the expressions of an image."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmseg_aml.models  # noqa: F401
from mmseg_aml.datasets.transforms.letterbox import Letterbox, letterbox_matrices
from mmseg_aml.evaluation import RISMetric
from mmseg_aml.evaluation.letterbox import unbox_logits, unbox_probabilities
from mmseg_aml.models.backbones.detris_dinov2 import load_dinov2
from mmseg_aml.models.losses.soft_bce import SoftBinaryCrossEntropy
from mmseg_aml.models.text_encoders.detris_text_encoder import load_clip_text
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup, TextTokens


@pytest.fixture
def model(root):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = Config.fromfile(root / 'configs/_base_/models/detris_vit-mini.py').model
    return MODELS.build(cfg).eval()


def batch(size=(48, 64), **meta) -> dict[str, Any]:
    groups = []
    for texts in (('the red circle', 'leftmost small square', 'blue ring'), ('big star',)):
        samples = [
            SegDataSample(
                metainfo=dict(expression=t, img_shape=size, ori_shape=size, sent_id=i, **meta),
                gt_sem_seg=PixelData(data=torch.ones(1, *meta.get('ori_shape', size)).byte()),
            )
            for i, t in enumerate(texts)
        ]
        groups.append(ExpressionGroup(samples))
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for _ in groups]
    return dict(inputs=images, data_samples=groups)


def test_clip_ids_are_the_published_ones(shared):
    stored = json.loads((shared / 'parity/detris/tokens.json').read_text())
    for length, rows in stored.items():
        config = dict(width=8, num_heads=1, num_layers=1, adapter_layers=(), vocabulary=4)
        encoder = MODELS.build(
            dict(type='mmseg_aml.DETRISTextEncoder', max_length=int(length), **config)
        )
        tokens = encoder.tokenize([row['text'] for row in rows])
        assert tokens.ids.tolist() == [row['ids'] for row in rows]
        assert torch.equal(tokens.mask, tokens.ids != 0)


def test_text_tower_without_adapters_is_clip():
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    sizes: Any = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=50)
    clip = CLIPTextModelWithProjection(
        CLIPTextConfig(
            **sizes, intermediate_size=64, projection_dim=16, bos_token_id=48, eos_token_id=49
        )
    ).eval()
    ours = MODELS.build(
        dict(
            type='mmseg_aml.DETRISTextEncoder',
            tokenizer='tiny',
            vocabulary=50,
            width=16,
            num_heads=2,
            num_layers=2,
            adapter_layers=(),
        )
    )
    load_clip_text(ours, clip.state_dict(), 'here')
    ids = torch.tensor([[48, 5, 7, 49, 0, 0], [48, 9, 49, 0, 0, 0]])
    with torch.no_grad():
        found = ours(TextTokens(ids, ids != 0))
        expected = clip(input_ids=ids)
    torch.testing.assert_close(found.tokens, expected.last_hidden_state)
    torch.testing.assert_close(found.sentence, expected.text_embeds)
    with pytest.raises(ValueError, match='here is not the CLIP text tower'):
        load_clip_text(
            ours, {**clip.state_dict(), 'text_projection.weight': torch.ones(3, 3)}, 'here'
        )


def test_shared_stem_equals_one_pass_per_expression(model):
    data = model.data_preprocessor(batch())
    runs = []
    hook = model.backbone.patch_embed.register_forward_hook(lambda *a: runs.append(len(a[2])))
    with torch.no_grad():
        together = model.encode(data['inputs'], data['data_samples'])
        images = data['inputs'][[0, 0, 0, 1]]
        alone = model.backbone(images, together.text)
    hook.remove()
    assert runs == [2, 4]  # images, not expressions
    for a, b in zip(together.visual, alone):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match='multiples of its patch size 8'):
        model.backbone.stem(torch.zeros(1, 3, 60, 64))


def test_only_adapters_and_head_learn(root):
    cfg = Config.fromfile(root / 'configs/_base_/models/detris_dinov2-b.py').model
    cfg.text_encoder.name = None
    with torch.device('meta'):
        full = MODELS.build(cfg)
    sizes = {'adapters': 0, 'head': 0, 'frozen': 0}
    for name, parameter in full.named_parameters():
        part = 'adapters' if '.adapter.' in name else name.partition('.')[0]
        part = part.replace('decode_head', 'head')
        assert parameter.requires_grad == (part in ('adapters', 'head')), name
        sizes[part if part in sizes else 'frozen'] += parameter.numel()
    # Beside the 768 + 1 numbers of mask token and temperature, which nothing uses.
    assert sizes == {'adapters': 2715696, 'head': 22802433, 'frozen': 150011649 - 769}


def test_pretrained_dinov2_is_checked(model):
    tower = {k: v + 1 for k, v in model.backbone.state_dict().items() if '.adapter.' not in k}
    load_dinov2(model.backbone, {**tower, 'mask_token': torch.ones(1)}, 'file.pth')
    assert torch.equal(model.backbone.cls_token, tower['cls_token'])
    with pytest.raises(ValueError, match=r'file.pth lacks 1 weights.*register_tokens'):
        load_dinov2(
            model.backbone, {k: v for k, v in tower.items() if k != 'register_tokens'}, 'file.pth'
        )
    with pytest.raises(ValueError, match='shapes differ'):
        load_dinov2(model.backbone, {**tower, 'norm.weight': torch.ones(2)}, 'file.pth')


def test_letterbox_there_and_back():
    photo = np.zeros((30, 50, 3), np.uint8)
    photo[10:20, 20:40] = 255
    mask = (photo[None, ..., 0] > 0).astype(np.uint8)
    found = Letterbox((112, 112)).transform(dict(img=photo, gt_masks=mask))
    assert found['img'].shape == (112, 112, 3) and found['letterbox'] == (112, 112)
    assert found['img'][0, 0].tolist() == [123, 117, 104]
    assert 0 < found['gt_soft_masks'].max() <= 1
    assert np.any((found['gt_soft_masks'] > 0) & (found['gt_soft_masks'] < 1))
    logits = torch.from_numpy(found['gt_soft_masks'])[None] * 20 - 10
    for back in (
        unbox_logits(logits, (112, 112), (30, 50))[0, 0].numpy() > 0,
        unbox_probabilities(logits, (112, 112), (30, 50))[0] > 0.35,
    ):
        assert back.shape == (30, 50)
        assert (back != mask[0]).mean() < 0.03
    there, back, scale = letterbox_matrices((30, 50), (112, 112))
    assert scale == 2.24
    np.testing.assert_allclose(back @ [*(there @ [7, 9, 1]), 1], [7, 9], atol=1e-4)


def test_evaluation_of_letterboxed_photographs_is_the_published_one(model):
    shape = (30, 50)
    data = batch((64, 64), letterbox=(64, 64))
    for group in data['data_samples']:
        for sample in group.samples:
            sample.set_metainfo(dict(ori_shape=shape))
            mask = torch.zeros(1, *shape, dtype=torch.uint8)
            mask[:, 5:25, 10:30] = 1
            sample.gt_sem_seg = PixelData(data=mask)
    with torch.no_grad():
        samples = model.test_step(data)
    assert samples[0].pred_sem_seg.data.shape == (1, *shape)
    metric = RISMetric(['original', 'cris-original'])
    metric.process(None, [sample.to_dict() for sample in samples])
    (first, _) = metric.results
    for k, sample in enumerate(samples[:3]):
        logits = sample.letterbox_logits.data[None]
        assert logits.shape[-2:] == (32, 32)  # as the head gives them
        seen = unbox_probabilities(logits, (64, 64), shape)[0] > 0.35
        truth = sample.gt_sem_seg.data[0].bool().numpy()
        assert first.counts[1, k].tolist() == [(seen & truth).sum(), (seen | truth).sum()]


def test_maps_show_the_words(model):
    data = model.data_preprocessor(batch())
    model.test_cfg = dict(with_maps=True)
    with torch.no_grad():
        samples = model.predict(data['inputs'], data['data_samples'])
    for sample in samples:
        (picture,) = sample.maps.values()
        assert picture.shape == (6, 8) and picture.max() == 1 and picture.min() >= 0


def test_loss_takes_soft_targets_and_leaves_out_padding():
    logits = torch.tensor([[[[2.0, -1.0, 5.0]]]])
    target = torch.tensor([[[[0.25, 1.0, 255.0]]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[..., :2], target[..., :2]
    )
    torch.testing.assert_close(SoftBinaryCrossEntropy()(logits, target), expected)
