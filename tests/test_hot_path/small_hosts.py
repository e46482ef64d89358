"""Small networks of every host, and batches as the data loader hands them over."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

import mmseg_aml.models  # noqa: F401  registers
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup

WIDTHS = (8, 16, 32, 64)
SWIN = dict(
    type='mmseg_aml.SwinTransformer',
    embed_dims=8,
    depths=(1, 1, 2, 1),
    num_heads=(1, 1, 2, 2),
    window_size=4,
)
TEXT = dict(
    type='mmseg_aml.HFTextEncoder',
    tokenizer='tiny',
    max_length=12,
    config=dict(
        model_type='bert',
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    ),
)
HOSTS: dict[str, dict[str, Any]] = {
    'plain head': dict(
        backbone=SWIN,
        text_encoder=TEXT,
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=WIDTHS, text_channels=16),
        decode_head=dict(
            type='SegformerHead',
            in_channels=list(WIDTHS),
            in_index=[0, 1, 2, 3],
            channels=8,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
            loss_decode=dict(type='mmseg_aml.BinaryCrossEntropy'),
        ),
    ),
    'CARIS': dict(
        backbone=SWIN,
        text_encoder={**TEXT, 'type': 'mmseg_aml.CARISTextEncoder', 'visual_channels': 64},
        decode_head=dict(
            type='mmseg_aml.CARISHead',
            in_channels=WIDTHS,
            channels=16,
            text_channels=16,
            num_layers=2,
            num_heads=2,
            norm_groups=4,
        ),
    ),
    'LAVT': dict(
        backbone={**SWIN, 'type': 'mmseg_aml.LAVTSwinTransformer', 'text_channels': 16},
        text_encoder=TEXT,
        decode_head=dict(
            type='mmseg_aml.LAVTHead',
            in_channels=WIDTHS,
            loss_decode=dict(type='mmseg_aml.WeightedCrossEntropy'),
        ),
    ),
    'VIPA': dict(
        backbone={**SWIN, 'type': 'mmseg_aml.LAVTSwinTransformer', 'text_channels': 16},
        text_encoder=TEXT,
        decode_head=dict(
            type='mmseg_aml.VIPAHead',
            in_channels=WIDTHS,
            channels=16,
            text_channels=16,
            num_heads=2,
        ),
    ),
}
AML = dict(type='mmseg_aml.AMLLossWrapper', estimator=dict(type='mmseg_aml.PMME', dim=64))
STRATEGIES: dict[str, dict[str, Any] | None] = {
    'plain': None,
    'AML': AML,
    'AML, two views': dict(AML, clean_weight=0.5),
    'AML as released': dict(type='mmseg_aml.AMLReleaseLossWrapper'),
    'MaskRIS': dict(type='mmseg_aml.MaskRISLossWrapper', patch_size=16),
}


def build(host: str, strategy: str) -> Any:
    """In train mode, the same weights each time."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    settings = dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        loss_wrapper=STRATEGIES[strategy],
        **HOSTS[host],
    )
    return MODELS.build(settings).train()


def groups(counts: tuple[int, ...], size: int = 64) -> list[dict[str, Any]]:
    """Packed items: images of ``size`` with that many expressions each."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for image, count in enumerate(counts):
        samples = []
        for row in range(count):
            mask = torch.zeros(1, size, size, dtype=torch.uint8)
            mask[:, 8 * row : 8 * row + 24, 10:50] = 1
            sample = SegDataSample(gt_sem_seg=PixelData(data=mask))
            sample.set_metainfo(
                dict(
                    expression=('the red circle', 'a blue star', 'left square')[(image + row) % 3],
                    ori_shape=(size, size),
                    img_shape=(size, size),
                )
            )
            samples.append(sample)
        image = torch.randint(256, (3, size, size), generator=generator, dtype=torch.uint8)
        items.append(dict(inputs=image, data_samples=ExpressionGroup(samples)))
    return items
