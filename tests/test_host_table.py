"""The table of docs/hosts.md, walked: what it says works trains, what it denies is refused."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import ExpressionGroup

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = ('the red circle', 'leftmost square', 'ring')
BERT = dict(
    model_type='bert',
    hidden_size=96,
    num_hidden_layers=1,
    num_attention_heads=3,
    intermediate_size=96,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
SWIN = dict(
    embed_dims=24, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, drop_path_rate=0.0
)
WIDTHS = (24, 48, 96, 192)
TEXT = dict(type='mmseg_aml.HFTextEncoder', tokenizer='tiny', config=BERT)


def mini(name: str) -> dict:
    return Config.fromfile(ROOT / 'configs' / f'{name}_1xb8-8e_ref-shapes-64x64.py').model.to_dict()


def caris() -> dict:
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        data_preprocessor=dict(type='mmseg_aml.TextImageDataPreprocessor'),
        backbone=dict(type='mmseg_aml.SwinTransformer', **SWIN),
        text_encoder=dict(TEXT, type='mmseg_aml.CARISTextEncoder', visual_channels=192),
        decode_head=dict(
            type='mmseg_aml.CARISHead',
            in_channels=WIDTHS,
            channels=24,
            text_channels=96,
            num_layers=1,
            num_heads=2,
            norm_groups=4,
        ),
    )


def lavt() -> dict:
    cfg = Config.fromfile(ROOT / 'configs/_base_/models/lavt_swin-b.py').model.to_dict()
    cfg['backbone'] = dict(type='mmseg_aml.LAVTSwinTransformer', text_channels=96, **SWIN)
    cfg['text_encoder'] = TEXT
    cfg['decode_head'].update(in_channels=list(WIDTHS), channels=24)
    return cfg


HOSTS = {
    'any MMSegmentation head': lambda: mini('mmseg_heads/segformer_r18-mini'),
    'CARIS': caris,
    'LAVT': lavt,
    'VIPA': lambda: mini('vipa/vipa_r18-mini'),
    'ReLA': lambda: mini('rela/rela_r18-mini'),
    'DETRIS': lambda: mini('detris/detris_vit-mini'),
}


def table() -> list[tuple[str, str, bool]]:
    """(host, column, whether) of every cell."""
    text = (ROOT / 'docs/hosts.md').read_text(encoding='utf-8')
    part = text.split('## What goes together')[1].split('\n## ')[0]
    rows = [
        [cell.strip() for cell in line.strip('| \n').split('|')]
        for line in part.splitlines()
        if line.startswith('|')
    ]
    head, body = rows[0], rows[2:]
    assert [row[0] for row in body] == list(HOSTS)
    cells = []
    for row in body:
        for column, cell in zip(head[1:], row[1:]):
            assert re.match(r'(yes|no)\b', cell), f'{row[0]}, {column}: {cell!r}'
            cells.append((row[0], column, cell.startswith('yes')))
    return cells


def batch(size: int = 64) -> dict:
    samples = []
    for sentence in SENTENCES:
        shape = (size, size)
        meta = dict(expression=sentence, ori_shape=shape, img_shape=shape, pad_shape=shape)
        sample = SegDataSample(metainfo=meta)
        mask = torch.zeros(1, size, size, dtype=torch.uint8)
        mask[:, 8:40, 16:48] = 1
        sample.gt_sem_seg = PixelData(data=mask)
        samples.append(sample)
    image = torch.randint(256, (3, size, size), dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[ExpressionGroup(samples)])


def step(cfg: dict) -> tuple[dict, list[int]]:
    """The losses of one training step, and the rows of every pass of the image tower."""
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(copy.deepcopy(cfg)).train()
    rows: list[int] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    total, log = model.parse_losses(model(**model.data_preprocessor(batch(), True), mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle
    return log, rows


def with_image_tower(cfg: dict) -> dict:
    """ConvNeXt V2 of transformers, of the same widths."""
    widths = list(cfg['decode_head']['in_channels'])
    count = len(widths)
    cfg['backbone'] = dict(
        type='mmseg_aml.HFBackbone',
        config=dict(
            model_type='convnextv2',
            hidden_sizes=(widths + [8] * 4)[:4],
            depths=[1] * 4,
        ),
        out_indices=list(range(1, count + 1)),
    )
    return cfg


def with_text_tower(cfg: dict) -> dict:
    """A causal language model, as far from BERT as it gets."""
    llama = dict(model_type='llama', hidden_size=96, num_hidden_layers=1, intermediate_size=96)
    llama.update(num_attention_heads=3, num_key_value_heads=3)
    cfg['text_encoder'].update(config=llama, tokenizer='tiny')
    cfg['text_encoder'].pop('name', None)
    return cfg


def with_wrapper(cfg: dict, kind: str) -> dict:
    return {**cfg, 'loss_wrapper': dict(type=f'mmseg_aml.{kind}LossWrapper')}


def tries(column: str, cfg: dict) -> None:
    if column == 'another image tower':
        step(with_image_tower(cfg))
    elif column == 'another text tower':
        step(with_text_tower(cfg))
    elif column in ('AML', 'MaskRIS'):
        log, _ = step(with_wrapper(cfg, column))
        assert any(key.startswith(f'{column.lower()}.') and 'loss' in key for key in log)
    elif column == 'image tower once for all sentences':
        if step(cfg)[1] != [1]:
            raise ValueError('once per sentence')
    elif column == 'maps':
        cfg['test_cfg'] = dict(cfg.get('test_cfg') or {}, with_maps=True)
        init_default_scope('mmseg')
        MODELS.build(cfg)
    else:
        raise AssertionError(f'no trial for the column {column!r}')


@pytest.mark.parametrize(('host', 'column', 'works'), table())
def test_cell(host, column, works):
    cfg = HOSTS[host]()
    if works:
        tries(column, cfg)
    else:
        with pytest.raises((ValueError, TypeError)):
            tries(column, cfg)
