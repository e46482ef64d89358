"""The published DETRIS network of a parity folder, in our parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_aml.datasets.transforms.letterbox import Letterbox, letterbox_matrices
from mmseg_aml.evaluation.letterbox import unbox_probabilities
from mmseg_aml.models.backbones.detris_dinov2 import resize_positions
from mmseg_aml.models.checkpoints import load_file, state_of
from mmseg_aml.models.checkpoints.detris import detris_from_ours, detris_to_ours
from mmseg_aml.models.decode_heads.detris_layers import sine_code, sine_code_2d
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextTokens

# Batch statistics of narrow branches amplify rounding: what is stored is itself 1e-4 away from
# a run in double precision.
# OpenCV 4 rounds the weights of its bicubic warp, OpenCV 5 does not: one grey level here and
# there (up to 0.0152 after the normalisation).
TOLERANCES = {
    'logits_train': 3e-4,
    r'(mat|inv)_.*|.*/(mat|inv|target|iou)': 1e-6,
    r'dino_.*|decoder_pos.*|.*/prob_.*': 1e-5,
    r'.*/warped_rgb': 1e-3,  # share of the values
    r'.*/image': 0.0153,
}
CONFIG = Path(__file__).parents[2] / 'configs/_base_/models/detris_dinov2-b.py'


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our config for the sizes of a ``config.json``, every dropout 0."""
    text, dino, decoder = config['text'], config['dino'], config['decoder']
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        backbone=dict(
            type='mmseg_aml.DETRISDINOv2',
            embed_dims=dino['width'],
            depth=dino['depth'],
            num_heads=dino['heads'],
            patch_size=dino['patch'],
            num_registers=dino['registers'],
            position_side=dino['pos_grid'],
            mlp_ratio=dino.get('mlp_ratio', 4),
            taps=dino['taps'],
            adapter_layers=dino['adapter_layers'],
            adapter_channels=dino['adapter_dim'],
            align_channels=dino['aligner_embed'],
            align_heads=dino['aligner_heads'],
            align_drop=0.0,
            text_channels=text['width'],
        ),
        text_encoder=dict(
            type='mmseg_aml.DETRISTextEncoder',
            tokenizer='tiny',  # never called: the cases hold token ids
            vocabulary=text['vocab'],
            positions=text['context'],
            width=text['width'],
            num_heads=text['heads'],
            num_layers=text['layers'],
            adapter_layers=text['adapter_layers'],
            adapter_channels=text['adapter_dim'],
        ),
        decode_head=dict(
            type='mmseg_aml.DETRISHead',
            in_channels=[dino['width']] * 3,
            channels=decoder['width'],
            num_layers=decoder['layers'],
            num_heads=decoder['heads'],
            ffn_channels=decoder['ffn'],
            dropout=0.0,
            projector_channels=config['projector']['width'],
        ),
    )


def build(folder: Path) -> nn.Module:
    """The model of ``config.json`` with the weights of ``state_dict.pt``."""
    import mmseg_aml.models  # noqa: F401

    model = MODELS.build(model_config(json.loads((folder / 'config.json').read_text())))
    converted = detris_to_ours(state_of(load_file(folder / 'state_dict.pt')))
    if converted.missing or converted.unknown:
        raise ValueError(f'{folder}: missing {converted.missing}, unknown {converted.unknown}')
    model.load_state_dict(converted.state)
    return model


def samples_of(target: Tensor) -> list[SegDataSample]:
    """One data sample per row of the soft ``target`` (E, 1, H, W)."""
    samples = []
    for row, mask in enumerate(target):
        sample = SegDataSample()
        sample.set_data(dict(gt_soft_mask=PixelData(data=mask)))
        shape = tuple(mask.shape[1:])
        sample.set_metainfo(dict(image_index=row, img_shape=shape, pad_shape=shape))
        samples.append(sample)
    return samples


def _watched(model: Any) -> dict[str, nn.Module]:
    """Modules whose outputs are stored, by name."""
    text, vision = model.text_encoder.transformer.resblocks, model.backbone.blocks
    head = model.decode_head
    named = {f'text_block{i}': text[i] for i in range(len(text))}
    named.update({f'text_adapter{i}': b.adapter for i, b in enumerate(text) if b.adapter})
    named.update({f'vis_block{i}': block for i, block in enumerate(vision)})
    named.update({f'aligner{i}': b.adapter for i, b in enumerate(vision) if b.adapter})
    named.update({f'neck_gated{k}': getattr(head.neck, f'fusion{k}') for k in (3, 4, 5)})
    named.update({f'decoder_layer{i}': layer for i, layer in enumerate(head.decoder.layers)})
    named.update(neck_aggr=head.neck.aggr, neck_out=head.neck, decoder_out=head.decoder)
    named.update(proj_vis=head.proj.vis, proj_kernel=head.proj.txt)
    return named


def forward(model: Any, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Tensor, Tensor]:
    """Features, logits (E, 1, h, w) and the loss, in the model's present mode."""
    ids = torch.from_numpy(arrays['ids'])
    samples = samples_of(torch.from_numpy(arrays['target']))
    images = torch.from_numpy(arrays['image'])
    features = model.encode(images, samples, tokens=TextTokens(ids, ids != 0))
    logits = model.head_forward(features)
    (loss,) = model.supervised_loss(features, samples, output=logits).values()
    return features, logits, loss


def run(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Everything that a case stores, by its name there; ``grad_norms`` by official name."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: outputs.__setitem__(name, output)

    def keep_input(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        outputs['vis_tokens_in'] = inputs[0]

    hooks = [m.register_forward_hook(keep(n)) for n, m in _watched(model.eval()).items()]
    hooks.append(model.backbone.blocks[0].register_forward_pre_hook(keep_input))
    features, logits, loss = forward(model, arrays)
    for hook in hooks:
        hook.remove()
    norms = {'grad_norms_bn_eval': gradient_norms(model, loss)}
    outputs.update({f'vis{i + 1}': level for i, level in enumerate(features.visual)})
    outputs.update(text_words=features.text.tokens, text_state=features.text.sentence)
    outputs.update(logits=logits, loss_eval=loss)
    size = arrays['prob_full'].shape[-2:]
    outputs['prob_full'] = F.interpolate(logits.sigmoid(), size, mode='bicubic', align_corners=True)
    _, outputs['logits_train'], outputs['loss_train'] = forward(model.train(), arrays)
    norms['grad_norms'] = gradient_norms(model, outputs['loss_train'])
    state = detris_from_ours(model.state_dict())
    outputs.update({f'after_train/{k}': v for k, v in state.items()})
    results = {name: value.detach().numpy() for name, value in outputs.items()}
    return {**results, **norms}


def gradient_norms(model: nn.Module, loss: Tensor) -> dict[str, float]:
    """L2 norm of the gradient of every parameter that learns, by its official name."""
    model.zero_grad()
    loss.backward()
    own = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {k: v.double().norm().item() for k, v in detris_from_ours(own).items()}


def further_cases(folder: Path) -> dict[str, list[Any]]:
    """Differences of the files beside the cases: geometry and position tables."""
    report = {}
    for name, compare in (('letterbox', letterbox), ('positions', positions)):
        path = folder / f'{name}.npz'
        if path.exists():
            with np.load(path) as file:
                arrays = {key: file[key] for key in file.files}
            report[name] = compare(arrays, folder)
    return report


def positions(arrays: Mapping[str, np.ndarray], folder: Path) -> list[Any]:
    """``dino_{n}``, ``dino_{h}x{w}``, ``decoder_pos2d_{C}_{h}x{w}``, ``decoder_pos1d_{C}_{L}``."""
    table = state_of(load_file(folder / 'state_dict.pt'))['dinov2.pos_embed']
    found: list[Any] = []
    for name, stored in arrays.items():
        numbers = [int(n) for n in name.replace('x', '_').split('_') if n.isdigit()]
        if name.startswith('dino_'):
            ours = resize_positions(table, (numbers[0], numbers[-1]))
        elif name.startswith('decoder_pos2d_'):
            channels, height, width = numbers
            ours = sine_code_2d(height, width, channels, table)
        else:
            channels, length = numbers
            ours = sine_code(length, channels, table)
        found.append((name, ours.numpy().reshape(stored.shape), stored))
    return found


def letterbox(arrays: Mapping[str, np.ndarray], folder: Path) -> list[Any]:
    """Matrices ``{mat,inv}_{h}x{w}`` at 448, and photographs there and back (``{name}/...``)."""
    found: list[Any] = []
    for name, stored in arrays.items():
        if name.startswith('mat_'):
            shape = [int(n) for n in name[4:].split('x')]
            there, back, _ = letterbox_matrices(shape, (448, 448))
            found.append((name, there, stored))
            found.append((f'inv_{name[4:]}', back, arrays[f'inv_{name[4:]}']))
    for name in sorted({key.split('/')[0] for key in arrays if '/' in key}):
        stored = {
            key[len(name) + 1 :]: v for key, v in arrays.items() if key.startswith(f'{name}/')
        }
        for key, ours in there_and_back(stored):
            found.append((f'{name}/{key}', ours, stored[key]))
    return found


def there_and_back(stored: Mapping[str, np.ndarray]) -> list[tuple[str, Any]]:
    """(name, ours) of one photograph of ``letterbox.npz``."""
    box, shape = stored['warped_rgb'].shape[:2], stored['rgb'].shape[:2]
    packed = Letterbox(box).transform(dict(img=stored['rgb'], gt_masks=stored_mask(stored)))
    normalise = MODELS.build(Config.fromfile(CONFIG).model.data_preprocessor)
    pixels = torch.from_numpy(packed['img']).permute(2, 0, 1).float()
    there, back, _ = letterbox_matrices(shape, box)
    logits = torch.from_numpy(stored['logits'])
    boxed = F.interpolate(logits.sigmoid(), box, mode='bicubic', align_corners=True)[0, 0]
    probability = unbox_probabilities(logits, box, shape)[0]
    prediction = probability > 0.35
    truth = stored['mask'] > 0
    overlap, union = (prediction & truth).sum(), (prediction | truth).sum()
    return [
        ('mat', there),
        ('inv', back),
        ('warped_rgb', packed['img']),
        ('warped_mask', packed['gt_soft_masks'][0] * 255),
        ('image', ((pixels - normalise.mean) / normalise.std).numpy()),
        ('target', packed['gt_soft_masks'][0]),
        ('prob_letterbox', boxed.numpy()),
        ('prob_original', probability),
        ('pred', prediction),
        ('I', overlap),
        ('U', union),
        ('iou', overlap / union),
    ]


def stored_mask(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """The PNG mask (0 or 255) of a photograph as our transforms hold it, (1, h, w) of 0 and 1."""
    return (stored['mask'] > 0).astype(np.uint8)[None]
