"""VIPA in a segmentor: hosts, strategies, and its maps."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

import mmseg_aml.models  # noqa: F401
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup

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
SEGFORMER = dict(
    type='SegformerHead', in_channels=LEVELS, in_index=[0, 1, 2, 3], channels=8, num_classes=2
)
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
    settings = dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        text_encoder=TEXT,
        decode_head=head,
        **HOSTS[host],
    )
    return MODELS.build({**settings, **overrides})


def make_batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    groups, images = [], []
    for expressions in (['the red circle', 'a blue star'], ['left square']):
        samples = []
        for row, expression in enumerate(expressions):
            mask = torch.zeros(1, 64, 96, dtype=torch.long)
            mask[:, 8 * row : 8 * row + 24, 10:50] = 1
            sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
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


def test_a_fusion_that_nothing_reads_is_refused():
    fusion = HOSTS['late']['fusion']
    with pytest.raises(ValueError, match='LAVTSwinTransformer reads the text itself.*fusion=None'):
        make_model('early', fusion=fusion)
    with pytest.raises(ValueError, match='LAVTSwinTransformer.* CrossAttentionFusion would be'):
        make_model('early', fusion=fusion, decode_head=SEGFORMER)


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
    with pytest.raises(ValueError, match='with_maps'):
        init_default_scope('mmseg')
        MODELS.build(
            dict(
                type='mmseg_aml.TextImageSegmentor',
                text_encoder=TEXT,
                decode_head=SEGFORMER,
                test_cfg=dict(with_maps=True),
                **HOSTS['early'],
            )
        )
