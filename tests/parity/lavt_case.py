"""The LAVT cases of the parity folder, run through our converter, segmentor and loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_aml.models.checkpoints import load_file, state_of
from mmseg_aml.models.checkpoints.lavt import lavt_from_ours, lavt_to_ours
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Config of the network that a parity folder's ``config.json`` describes."""
    width = config['embed_dim']
    bert = dict(model_type='bert', num_hidden_layers=1, num_attention_heads=1, hidden_size=8)
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        backbone=dict(
            type='mmseg_aml.LAVTSwinTransformer',
            embed_dims=width,
            depths=config['depths'],
            num_heads=config['num_heads'],
            window_size=config['window_size'],
            drop_path_rate=0.0,
            text_channels=config['text_dim'],
            fusion_heads=config['num_heads_fusion'],
        ),
        # Never called: the cases hold text features.
        text_encoder=dict(type='mmseg_aml.HFTextEncoder', config=bert, tokenizer='tiny'),
        decode_head=dict(
            type='mmseg_aml.LAVTHead',
            in_channels=[width * 2**i for i in range(len(config['depths']))],
            loss_decode=dict(type='mmseg_aml.WeightedCrossEntropy', class_weight=(0.9, 1.1)),
        ),
    )


def build(folder: Path) -> nn.Module:
    """The model of ``config.json`` with the weights of ``state_dict.pt``."""
    model = MODELS.build(model_config(json.loads((folder / 'config.json').read_text())))
    converted = lavt_to_ours(state_of(load_file(folder / 'state_dict.pt')))
    if converted.missing or converted.unknown:
        raise ValueError(f'{folder}: missing {converted.missing}, unknown {converted.unknown}')
    text = {k: v for k, v in model.state_dict().items() if k.startswith('text_encoder.')}
    model.load_state_dict({**converted.state, **text})
    return model


def inputs_of(arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, TextFeatures, list[SegDataSample]]:
    """Images (E, 3, H, W), text features and ground truth of one case."""
    image = torch.from_numpy(arrays['image']).float()
    words = torch.from_numpy(arrays['text']).float().transpose(1, 2)
    mask = torch.from_numpy(arrays['mask']).reshape(words.shape[:2]).bool()
    samples = []
    for index, target in enumerate(torch.from_numpy(arrays['target'])):
        sample = SegDataSample(gt_sem_seg=PixelData(data=target[None]))
        size = tuple(image.shape[2:])
        sample.set_metainfo(dict(image_index=index, img_shape=size, pad_shape=size))
        samples.append(sample)
    return image, TextFeatures(words, mask, words[:, 0]), samples


def forward(
    model: Any, arrays: Mapping[str, np.ndarray]
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Levels, logits (E, 2, H, W) and the loss, in the model's present mode."""
    image, text, samples = inputs_of(arrays)
    features = model.encode(image, samples, text=text)
    (loss,) = model.supervised_loss(features, samples).values()
    return features.fused, model.decode(features, samples), loss


def run(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Everything that a case stores, by its name there; ``grad_norms`` by official name."""
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        _, logits_train, loss_train = forward(model.train(), arrays)
    for name, value in model.named_buffers():  # batch norm has moved its statistics
        value.copy_(buffers[name])
    levels, logits, loss = forward(model.eval(), arrays)
    model.zero_grad()
    loss.backward()
    return {
        **{f'f{i + 1}': level.detach().numpy() for i, level in enumerate(levels)},
        'logits': logits.detach().numpy(),
        'loss': loss.item(),
        'logits_train': logits_train.numpy(),
        'loss_train': loss_train.item(),
        'grad_norms': gradient_norms(model),
    }


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of every parameter's gradient, by its official name."""
    own = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {k: v.double().norm().item() for k, v in lavt_from_ours(own).items()}
