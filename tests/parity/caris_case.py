"""The published CARIS network of a parity folder, in our parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_aml.models.checkpoints import load_file, state_of
from mmseg_aml.models.checkpoints.caris import caris_from_ours, caris_to_ours
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextTokens


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our config for the sizes of a ``config.json``."""
    width = config['embed_dim']
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        backbone=dict(
            type='mmseg_aml.SwinTransformer',
            embed_dims=width,
            depths=config['depths'],
            num_heads=config['num_heads'],
            window_size=config['window_size'],
            drop_path_rate=0.0,
        ),
        text_encoder=dict(
            type='mmseg_aml.CARISTextEncoder',
            tokenizer='tiny',
            config=dict(
                model_type='bert',
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                **config['bert'],
            ),
            visual_channels=width * 8,
            prompt_grids=config['prompt_levels'],
        ),
        decode_head=dict(
            type='mmseg_aml.CARISHead',
            in_channels=[width, width * 2, width * 4, width * 8],
            channels=config['d_model'],
            text_channels=config['text_dim'],
            num_layers=config['num_enc_layers'],
            num_heads=config['dec_heads'],
            num_points=config['num_points'],
            expansion=config['mlp_expand'],
            num_prompts=config['num_vis_prompts'],
        ),
    )


def build(folder: Path) -> nn.Module:
    """The model of ``config.json`` with the weights of ``state_dict.pt``, in train mode."""
    import mmseg_aml.models  # noqa: F401

    model = MODELS.build(model_config(json.loads((folder / 'config.json').read_text())))
    converted = caris_to_ours(state_of(load_file(folder / 'state_dict.pt')))
    if converted.missing or converted.unknown:
        raise ValueError(f'{folder}: missing {converted.missing}, unknown {converted.unknown}')
    model.load_state_dict(converted.state)
    # A buffer of the published loss: rounded to half precision like the other weights.
    class_weight = converted.extra['criterion.seg_criterion.weight'].float()
    model.decode_head.loss_decode.class_weight.copy_(class_weight)
    return model.train()


def samples_of(target: np.ndarray) -> list[SegDataSample]:
    """One data sample per row of ``target`` (E, H, W)."""
    samples = []
    for row, mask in enumerate(torch.from_numpy(target)):
        sample = SegDataSample(gt_sem_seg=PixelData(data=mask[None].to(torch.uint8)))
        shape = tuple(mask.shape)
        sample.set_metainfo(dict(image_index=row, expression='x', img_shape=shape, ori_shape=shape))
        samples.append(sample)
    return samples


def run(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Everything that a case stores, by its name there; ``grad_norms`` by official name."""
    image = torch.from_numpy(arrays['image']).float()
    tokens = TextTokens(torch.from_numpy(arrays['ids']), torch.from_numpy(arrays['mask']).bool())
    samples = samples_of(arrays['target'])
    features = model.encode(image, samples, tokens=tokens)
    logits = model.decode_head(features)
    with torch.no_grad():  # as in evaluation, where sampling takes another way
        full = model.decode(features, samples)
    loss = model.supervised_loss(features, samples)['decode.loss_ce']
    model.zero_grad()
    loss.backward()
    outputs = {f'v{i + 1}': level for i, level in enumerate(features.visual)}
    outputs.update(l_feats=features.text.tokens, logits_quarter=logits, logits_full=full)
    return {
        **{name: value.detach().numpy() for name, value in outputs.items()},
        'loss': loss.item(),
        'grad_norms': gradient_norms(model),
    }


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of every parameter's gradient, by its official name."""
    own = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {k: v.double().norm().item() for k, v in caris_from_ours(own).items()}
