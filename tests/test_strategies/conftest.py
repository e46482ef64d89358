"""A small text-image segmentor and batches for the strategies."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.masking.blocks import valid_pixels
from mmseg_aml.structures import ExpressionGroup

WIDTHS = [16, 32, 64, 128]
SENTENCES = ['the red circle', 'the small blue star on the left', 'leftmost square', 'a ring']


def segmentor_config(**overrides) -> dict:
    """A SegFormer-like net of 0.3 M parameters that takes any image size."""
    config = dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        backbone=dict(
            type='MixVisionTransformer',
            embed_dims=16,
            num_heads=[1, 2, 4, 8],
            num_layers=[1, 1, 1, 1],
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
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
        ),
        fusion=dict(type='mmseg_aml.CrossAttentionFusion', in_channels=WIDTHS, text_channels=48),
        decode_head=dict(
            type='SegformerHead',
            in_channels=WIDTHS,
            in_index=[0, 1, 2, 3],
            channels=16,
            num_classes=2,
            out_channels=1,
            threshold=0.5,
            dropout_ratio=0.0,
            norm_cfg=dict(type='BN'),
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
        ),
    )
    return {**config, **overrides}


def canvas(
    size: tuple[int, int],
    count: int = 1,
    *,
    inside: Sequence[tuple[int, int]] | None = None,
    targets: torch.Tensor | None = None,
    features: Any = None,
) -> Any:
    """What filters and estimators read of a view, without a network."""
    sizes = list(inside or [size] * count)
    return SimpleNamespace(
        size=size,
        valid_sizes=sizes,
        valid=valid_pixels(sizes, size, torch.device('cpu')),
        targets=torch.zeros(len(sizes), *size).bool() if targets is None else targets,
        features=features,
    )


@pytest.fixture(name='segmentor_config')
def segmentor_config_fixture() -> Callable[..., dict]:
    return segmentor_config


@pytest.fixture(name='canvas', scope='session')
def canvas_fixture() -> Callable[..., Any]:
    return canvas


@pytest.fixture
def build() -> Callable[..., torch.nn.Module]:
    """Builds the segmentor with given weights (seed) and a ``loss_wrapper``."""

    def make(seed: int = 0, **overrides) -> torch.nn.Module:
        init_default_scope('mmseg')
        torch.manual_seed(seed)
        model = MODELS.build(segmentor_config(**overrides))
        return model.train()

    return make


@pytest.fixture
def batch() -> Callable[..., dict]:
    """Makes a raw batch; ``counts`` are the expressions of each image."""

    def make(counts=(1, 1), size=(64, 96), seed: int = 0) -> dict:
        generator = torch.Generator().manual_seed(seed)
        groups, images = [], []
        for count in counts:
            samples = []
            for index in range(count):
                sample = SegDataSample(
                    metainfo=dict(
                        expression=SENTENCES[(len(groups) + index) % len(SENTENCES)],
                        ori_shape=size,
                        img_shape=size,
                        sent_id=index,
                    )
                )
                mask = torch.zeros(1, *size, dtype=torch.uint8)
                top, left = (
                    int(torch.randint(side // 2, (), generator=generator)) for side in size
                )
                mask[:, top : top + size[0] // 3, left : left + size[1] // 3] = 1
                sample.gt_sem_seg = PixelData(data=mask)
                samples.append(sample)
            groups.append(ExpressionGroup(samples))
            images.append(torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8))
        return dict(inputs=images, data_samples=groups)

    return make
