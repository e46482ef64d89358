"""Small networks of the hosts, ready to use."""

import pytest
import torch
from mmengine.config import Config

from mmseg_aml.apis import RISInferencer

SIZE = (64, 96)
BERT = dict(
    model_type='bert',
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
)
TEXT = dict(type='mmseg_aml.HFTextEncoder', tokenizer='tiny', config=BERT, max_length=12)
SWIN = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
WIDTHS = [8, 16, 32, 64]
MODELS = {
    'CARIS': dict(
        backbone=dict(type='mmseg_aml.SwinTransformer', drop_path_rate=0.0, **SWIN),
        text_encoder=dict(TEXT, type='mmseg_aml.CARISTextEncoder', visual_channels=64),
        decode_head=dict(
            type='mmseg_aml.CARISHead',
            in_channels=WIDTHS,
            channels=16,
            text_channels=24,
            num_layers=2,
            num_heads=2,
            norm_groups=4,
        ),
    ),
    'LAVT': dict(
        backbone=dict(
            type='mmseg_aml.LAVTSwinTransformer', text_channels=24, drop_path_rate=0.0, **SWIN
        ),
        text_encoder=TEXT,
        decode_head=dict(type='mmseg_aml.LAVTHead', in_channels=WIDTHS, channels=16),
    ),
    'plain': dict(
        backbone=dict(
            type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN')
        ),
        text_encoder=TEXT,
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=WIDTHS, text_channels=24),
        decode_head=dict(
            type='FCNHead',
            in_channels=64,
            in_index=3,
            channels=8,
            num_classes=2,
            num_convs=1,
            norm_cfg=dict(type='BN'),
        ),
    ),
}
PIPELINE = [
    dict(type='mmseg_aml.LoadRefImage'),
    dict(type='mmseg_aml.ResizeRIS', size=SIZE),
    dict(type='mmseg_aml.LoadRefMasks'),
    dict(type='mmseg_aml.PackRISInputs'),
]


def inferencer(name, pipeline=PIPELINE):
    torch.manual_seed(0)
    cfg = dict(
        default_scope='mmseg',
        model=dict(
            type='mmseg_aml.TextImageSegmentor',
            data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
            **MODELS[name],
        ),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    ready = RISInferencer(Config(cfg), device='cpu')
    for parameter in ready.model.parameters():  # away from zeros and ones
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return ready


@pytest.fixture(scope='session')
def small():
    """name, test pipeline -> RISInferencer of a small network with random weights."""
    return inferencer
