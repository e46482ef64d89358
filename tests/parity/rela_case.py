"""The published ReLA network of a parity folder, in our parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_aml.evaluation.protocols import get_protocol
from mmseg_aml.evaluation.scores import gres_scores
from mmseg_aml.models.checkpoints import load_file, state_of
from mmseg_aml.models.checkpoints.rela import rela_from_ours, rela_to_ours
from mmseg_aml.models.decode_heads.rela_head import minimap_target
from mmseg_aml.models.layers import sine_positions
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextTokens

MEAN = torch.tensor((123.675, 116.28, 103.53)).view(3, 1, 1)
STD = torch.tensor((58.395, 57.12, 57.375)).view(3, 1, 1)
# Instance norms and the LayerNorm of narrow maps amplify rounding.
TOLERANCES = {
    r'text': 2e-5,
    r'stage\d_block\d|stage\d_next|pwam\d|res\d': 5e-4,
    r'logits.*|mask_features.*|region_masks.*|head_layer\d+|encoder_layer\d+|ria0|rla_.*': 1e-3,
    r'pred': 1e-4,  # share of pixels: two channels may tie to rounding
    r'attn_mask\d+|target_minimap.*': 0.0,
    r'loss': 1e-4,  # five times the sum of the terms
    r'loss_.*': 2e-5,
}
# A sample with an attention decision nearer to its threshold, in standard deviations of the
# masks, may be decided otherwise by rounding. Cases keep their distance, but only with the
# ``lang_weight`` of the file.
SAFE_DISTANCE = 2e-5
# In front of an instance norm: the true gradient is 0, what is stored is rounding noise.
NO_GRADIENT = re.compile(r'.*image_lang_att\.(f_query|f_value|W)\.0\.bias')


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our config for the sizes of a ``config.json``."""
    swin, bert, pixel, head = (config[k] for k in ('swin', 'bert', 'pixel_decoder', 'head'))
    widths = [swin['embed_dim'] * 2**i for i in range(len(swin['depths']))]
    side = round(head['queries'] ** 0.5)
    no_dropout = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return dict(
        type='mmseg_aml.TextImageSegmentor',
        backbone=dict(
            type='mmseg_aml.LAVTSwinTransformer',
            embed_dims=swin['embed_dim'],
            depths=swin['depths'],
            num_heads=swin['heads'],
            window_size=swin['window'],
            drop_path_rate=0.0,
            text_channels=bert['hidden_size'],
            fusion_heads=[1] * len(widths),
        ),
        text_encoder=dict(
            type='mmseg_aml.HFTextEncoder',
            tokenizer='tiny',
            config=dict(model_type='bert', **no_dropout, **bert),
        ),
        decode_head=dict(
            type='mmseg_aml.ReLAHead',
            in_channels=widths,
            channels=head['width'],
            text_channels=bert['hidden_size'],
            grid=(side, side),
            num_layers=head['layers'],
            num_heads=head['heads'],
            inner=head['ffn'],
            pixel_layers=pixel['layers'],
            pixel_heads=pixel['heads'],
            pixel_inner=pixel['ffn'],
            num_points=pixel['points'],
            norm_groups=pixel['groups'],
        ),
    )


def build(folder: Path) -> nn.Module:
    """The model of ``config.json`` with the weights of ``state_dict.pt``."""
    model = MODELS.build(model_config(json.loads((folder / 'config.json').read_text())))
    converted = rela_to_ours(state_of(load_file(folder / 'state_dict.pt')), shared=False)
    if converted.missing or converted.unknown:
        raise ValueError(f'{folder}: missing {converted.missing}, unknown {converted.unknown}')
    model.load_state_dict(converted.state)
    return model.train()


def samples_of(arrays: Mapping[str, np.ndarray]) -> list[SegDataSample]:
    """One data sample per row of ``target`` (E, 1, H, W)."""
    samples = []
    for row, (mask, empty) in enumerate(zip(arrays['target'], arrays['empty'])):
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(mask).long()))
        shape = mask.shape[-2:]
        meta = dict(image_index=row, img_shape=shape, pad_shape=shape, no_target=bool(empty))
        sample.set_metainfo(meta)
        samples.append(sample)
    return samples


class Recorder:
    """What the parts of a model give in one forward pass, by the names of the fixtures."""

    def __init__(self, model: Any) -> None:
        self.found: dict[str, Any] = {}
        backbone, head = model.backbone, model.decode_head
        for i, block in enumerate(backbone.stages[0].blocks):
            self.note(block, f'stage0_block{i}')
        for i, (stage, fusion) in enumerate(zip(backbone.stages, backbone.fusions)):
            self.note(fusion, f'pwam{i}')
            if stage.downsample is not None:
                self.note(stage.downsample, f'stage{i}_next')
        for i, layer in enumerate(head.pixel_decoder.layers):
            self.note(layer, f'encoder_layer{i}')
        for i, layer in enumerate(head.layers):
            self.note(layer, f'head_layer{i}')
            layer.register_forward_pre_hook(self.blocked_by(f'attn_mask{i}'))
        self.note(head.layers[0].pixels, 'ria0')
        self.note(head.language.read, 'rla_lang')
        self.note(head.layers[0].regions, 'rla_vision0')

    def note(self, module: nn.Module, name: str) -> None:
        """Keep the (first) output of ``module``."""

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            self.found[name] = output.detach().numpy()

        module.register_forward_hook(keep)

    def blocked_by(self, name: str) -> Any:
        """A hook that keeps the attention mask that a layer is given."""

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.found[name] = inputs[4].numpy()

        return keep


def run(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Everything that a case stores, by its name there; ``grad_norms`` by official name."""
    head = model.decode_head
    image = (torch.from_numpy(arrays['image']).float() - MEAN) / STD
    tokens = TextTokens(torch.from_numpy(arrays['ids']), torch.from_numpy(arrays['mask']).bool())
    samples = samples_of(arrays)
    recorder = Recorder(model)
    features = model.encode(image, samples, tokens=tokens)
    output = head(features)
    found = dict(recorder.found)
    losses = model.supervised_loss(features, samples, output=output)
    loss = torch.stack(list(losses.values())).sum()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():  # as in evaluation, where sampling takes another way
        full = model.decode(features, samples)
        truth = torch.stack([sample.gt_sem_seg.data for sample in samples]) == 1
        unread = without_lang_weight(head, features, arrays['logits_scalar_not_loaded'])
        masks = torch.einsum('eqc,echw->eqhw', output.regions[:, :4], output.mask_features)
    probability = full.sigmoid()
    tensors = dict(
        text=features.text.tokens,
        logits=output.logits,
        logits_scalar_not_loaded=unread,
        minimap=output.minimap,
        nt_logits=output.no_target,
        nt_prob=output.no_target.sigmoid(),
        pred=probability.argmax(1),
        target_minimap=minimap_target(truth, head.grid),
        region_masks_q0to3=masks,
        mask_features_s0_c0to15=output.mask_features[0, :16],
        **{f'res{i + 2}': level for i, level in enumerate(features.fused)},
    )
    found.update({name: value.detach().numpy() for name, value in tensors.items()})
    found['ref_seg_s0'] = probability[: len(arrays['ref_seg_s0'].reshape(-1, *full.shape[1:]))]
    found['ref_seg_s0'] = found['ref_seg_s0'].numpy().reshape(arrays['ref_seg_s0'].shape)
    factors = dict(ce=('mask_ce', 5.0), minimap=('minimap_ce', 0.5), no_target=('nt_ce', 0.5))
    for ours, (theirs, factor) in factors.items():
        found[f'loss_{theirs}'] = losses[f'decode.loss_{ours}'].item() / factor
    return {**found, 'loss': loss.item(), 'grad_norms': gradient_norms(model)}


def without_lang_weight(head: Any, features: Any, stored: np.ndarray) -> torch.Tensor:
    """Logits as the published loader makes them; ``stored`` for samples too near a threshold."""
    distances: list[torch.Tensor] = []
    decide = head.blocked

    def measure(x: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        masks = head.mask_embed(head.decoder_norm(x)) @ picture
        distances.append(masks.abs().flatten(1).amin(1) / masks.std())
        return decide(x, picture)

    kept = head.language.weight.item()
    head.language.weight.zero_()
    head.blocked = measure
    logits = head(features).logits
    del head.blocked
    head.language.weight.fill_(kept)
    unsafe = torch.stack(distances).amin(0) < SAFE_DISTANCE
    if unsafe.any():
        rows = unsafe.nonzero()[:, 0].tolist()
        print(f'  logits_scalar_not_loaded: not compared for samples {rows}')
    return torch.where(unsafe[:, None, None, None], torch.from_numpy(stored), logits)


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """L2 norm of every parameter's gradient, by its official name."""
    own = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {k: v.double().norm().item() for k, v in rela_from_ours(own).items()}


def further_cases(folder: Path) -> dict[str, list[tuple[str, Any, np.ndarray]]]:
    """``small.npz`` and ``metrics_gres.*``: per case (name, ours, stored)."""
    cases = {}
    if (folder / 'small.npz').exists():
        with np.load(folder / 'small.npz') as file:
            cases['small'] = small_case({name: file[name] for name in file.files})
    if (folder / 'metrics_gres.npz').exists():
        stored = json.loads((folder / 'metrics_gres.json').read_text())
        with np.load(folder / 'metrics_gres.npz') as file:
            cases['metrics'] = metrics_case({name: file[name] for name in file.files}, stored)
    return cases


def small_case(arrays: Mapping[str, np.ndarray]) -> list[tuple[str, Any, np.ndarray]]:
    """Position codes and minimap targets."""
    found = []
    for name, stored in arrays.items():
        if name.startswith('sine_'):
            channels, height, width = stored.shape
            code = sine_positions(height, width, channels, torch.empty(0)).T
            found.append((name, code.reshape(stored.shape).numpy(), stored))
        elif name.startswith('minimap_') and not name.startswith('minimap_float'):
            mask = torch.from_numpy(arrays[name.replace('minimap', 'mask')])[None, None]
            side = round(len(stored) ** 0.5)
            found.append(
                (
                    name.replace('minimap', 'target_minimap'),
                    minimap_target(mask, (side, side))[0].numpy(),
                    stored,
                )
            )
    return found


def metrics_case(
    arrays: Mapping[str, np.ndarray], stored: Mapping[str, Any]
) -> list[tuple[str, Any, np.ndarray]]:
    """The numbers of every source, and of all together."""
    predicted, truth = arrays['pred'].astype(bool), arrays['gt'].astype(bool)
    overlap = (predicted & truth).sum((1, 2)), (predicted | truth).sum((1, 2))
    counts = np.stack(overlap, 1).astype(np.int64)
    found = []
    for source, numbers in stored['all_samples'].items():
        rows = slice(None) if source == 'full' else arrays['source'] == source
        scores = gres_scores(
            counts[rows], arrays['gt_nt'][rows], arrays['pred_nt'][rows], get_protocol('rela-480')
        )
        for name, number in numbers.items():
            # Published as fractions, and 0 for both without any no-target sample.
            if name in ('N_acc', 'T_acc'):
                if not arrays['gt_nt'][rows].any():
                    continue
                number *= 100
            ours = scores[name.replace('_', '-')]
            found.append((f'{source} {name}', np.float64(ours), np.float64(number)))
    return found
