"""Official ReLA weights -> ours, and back.

ReLA's image tower is LAVT's, and so are ours: ``LAVTSwinTransformer``, with the gates through
which words enter the tower. Both matrices of a gate start from zero and then have a gradient
of exactly zero, so in a network trained by the published recipe all gates are closed. The
tower then reads no words, and the *shared* layout is the same function: a plain
``SwinTransformer`` that runs once per image, and ``PWAMFusion`` behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...engine.checkpoints import without_module
from .files import State, add_prefix, with_prefix
from .lavt import backbone_from_ours, backbone_to_ours
from .layouts import BERT_KEYS, SWIN_KEYS, Converted, KeyTable, rename_beginnings
from .towers import bert_from_ours, bert_to_ours

_ATTENTION = '{in_proj_weight,in_proj_bias,out_proj.weight,out_proj.bias}'
RELA_KEYS = KeyTable(
    ' '.join(f'backbone.{key}' for key in SWIN_KEYS.split())
    + f"""
backbone.layers.#.fusion.{{vis_project,project_mm}}.0.{{weight,bias}}
backbone.layers.#.fusion.image_lang_att.{{f_query,f_key,f_value,W}}.0.{{weight,bias}}
backbone.layers.{{0,1,2}}.res_gate.{{0,2}}.weight
sem_seg_head.pixel_decoder.input_proj.#.{{0,1}}.{{weight,bias}}
sem_seg_head.pixel_decoder.transformer.level_embed
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.self_attn.sampling_offsets.{{weight,bias}}
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.self_attn.attention_weights.{{weight,bias}}
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.self_attn.{{value_proj,output_proj}}.weight
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.self_attn.{{value_proj,output_proj}}.bias
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.{{norm1,norm2}}.{{weight,bias}}
sem_seg_head.pixel_decoder.transformer.encoder.layers.#.{{linear1,linear2}}.{{weight,bias}}
sem_seg_head.pixel_decoder.mask_features.{{weight,bias}}
sem_seg_head.pixel_decoder.{{adapter_1,layer_1}}.{{weight,norm.weight,norm.bias}}
sem_seg_head.predictor.RLA_vision.#.self_attn.{_ATTENTION}
sem_seg_head.predictor.RIA_layers.#.multihead_attn.{_ATTENTION}
sem_seg_head.predictor.{{RLA_vision,RIA_layers}}.#.norm.{{weight,bias}}
sem_seg_head.predictor.transformer_ffn_layers.#.{{linear1,linear2,norm}}.{{weight,bias}}
sem_seg_head.predictor.decoder_norm.{{weight,bias}}
sem_seg_head.predictor.{{query_feat,query_embed,level_embed,lang_proj}}.weight
sem_seg_head.predictor.lang_weight
sem_seg_head.predictor.RLA_lang_att.multihead_attn.{_ATTENTION}
sem_seg_head.predictor.RLA_lang_att.norm.{{weight,bias}}
sem_seg_head.predictor.minimap_embed.{{weight,bias}}
sem_seg_head.predictor.nt_embed.layers.{{0,1}}.{{weight,bias}}
sem_seg_head.predictor.mask_embed.layers.{{0,1,2}}.{{weight,bias}}
"""
)
TEXT_KEYS = KeyTable(BERT_KEYS)
LANG_WEIGHT = 'sem_seg_head.predictor.lang_weight'
# An arange that old versions of transformers saved.
POSITION_IDS = 'text_encoder.embeddings.position_ids'

_PIXEL, _PREDICTOR = 'sem_seg_head.pixel_decoder.', 'sem_seg_head.predictor.'
_HEAD_NAMES = (
    (f'{_PIXEL}transformer.encoder.layers.', 'pixel_decoder.layers.'),
    (f'{_PIXEL}transformer.level_embed', 'pixel_decoder.level_embed'),
    (f'{_PIXEL}adapter_1.norm.', 'pixel_decoder.lateral.gn.'),
    (f'{_PIXEL}adapter_1.', 'pixel_decoder.lateral.conv.'),
    (f'{_PIXEL}layer_1.norm.', 'pixel_decoder.output.gn.'),
    (f'{_PIXEL}layer_1.', 'pixel_decoder.output.conv.'),
    (_PIXEL, 'pixel_decoder.'),
    (f'{_PREDICTOR}RIA_layers.#.multihead_attn.', 'layers.#.pixels.attn.'),
    (f'{_PREDICTOR}RIA_layers.#.norm.', 'layers.#.pixels.norm.'),
    (f'{_PREDICTOR}RLA_vision.#.self_attn.', 'layers.#.regions.attn.'),
    (f'{_PREDICTOR}RLA_vision.#.norm.', 'layers.#.regions.norm.'),
    (f'{_PREDICTOR}transformer_ffn_layers.#.', 'layers.#.ffn.'),
    (f'{_PREDICTOR}lang_proj.', 'language.project.'),
    (f'{_PREDICTOR}RLA_lang_att.multihead_attn.', 'language.read.attn.'),
    (f'{_PREDICTOR}RLA_lang_att.norm.', 'language.read.norm.'),
    (LANG_WEIGHT, 'language.weight'),
    (f'{_PREDICTOR}nt_embed.layers.0.', 'no_target_embed.0.'),
    (f'{_PREDICTOR}nt_embed.layers.1.', 'no_target_embed.2.'),
    (f'{_PREDICTOR}mask_embed.layers.0.', 'mask_embed.0.'),
    (f'{_PREDICTOR}mask_embed.layers.1.', 'mask_embed.2.'),
    (f'{_PREDICTOR}mask_embed.layers.2.', 'mask_embed.4.'),
    (_PREDICTOR, ''),
)
_SHARED_NAMES = (('backbone.fusions.', 'fusion.fusions.'),) + tuple(
    (f'backbone.norm{i}.', f'fusion.norms.{i}.') for i in range(4)
)


def closed_gates(state: Mapping[str, Tensor]) -> State:
    """The gates of an official ``model`` dict, if all are closed; else nothing."""
    gates = {key: value for key, value in state.items() if '.res_gate.' in key}
    # x + tanh(W2 relu(W1 r)) * r = x if W2 is zero
    closed = all(not value.any() for key, value in gates.items() if '.res_gate.2.' in key)
    return gates if closed else {}


def rela_to_ours(state: Mapping[str, Tensor], *, shared: bool) -> Converted:
    """Rename an official ``model`` dict (without ``module.``).

    Args:
        state: The weights, by official name.
        shared: For ``SwinTransformer`` and ``PWAMFusion``, where the gates have no place, and
            not for ``LAVTSwinTransformer``.
    """
    text = {k: v for k, v in state.items() if k.startswith('text_encoder.') and k != POSITION_IDS}
    network = {key: value for key, value in state.items() if not key.startswith('text_encoder.')}
    bert = bert_to_ours(with_prefix(text, 'text_encoder.'))
    missing = RELA_KEYS.missing(network)
    missing += [f'text_encoder.{key}' for key in TEXT_KEYS.missing(bert)]
    unknown = RELA_KEYS.unknown(network)
    unknown += [k for k, n in zip(text, bert) if TEXT_KEYS.unknown([n])]
    homeless = {*unknown, POSITION_IDS}
    if shared:
        homeless |= {key for key in network if '.res_gate.' in key}
    housed = {key: value for key, value in state.items() if key not in homeless}
    backbone = backbone_to_ours(with_prefix(housed, 'backbone.'))
    head = {k: v for k, v in housed.items() if k.startswith('sem_seg_head.')}
    tower = add_prefix(backbone, 'backbone.')
    ours = {
        **(rename_beginnings(tower, _SHARED_NAMES) if shared else tower),
        **add_prefix(bert_to_ours(with_prefix(housed, 'text_encoder.')), 'text_encoder.model.'),
        **add_prefix(rename_beginnings(head, _HEAD_NAMES), 'decode_head.'),
    }
    return Converted(ours, {k: v for k, v in state.items() if k in homeless}, unknown, missing)


def rela_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`rela_to_ours` for both layouts, without ``extra``.

    Raises:
        KeyError: If ``state`` has a key that is not ReLA's.
    """
    state = rename_beginnings(state, _SHARED_NAMES, reverse=True)
    bert = bert_from_ours(with_prefix(state, 'text_encoder.model.'))
    head = with_prefix(state, 'decode_head.')
    network = {
        **add_prefix(backbone_from_ours(with_prefix(state, 'backbone.')), 'backbone.'),
        **rename_beginnings(head, _HEAD_NAMES, reverse=True),
    }
    foreign = RELA_KEYS.unknown(network) + TEXT_KEYS.unknown(bert)
    housed = ('backbone.', 'decode_head.', 'text_encoder.model.')
    foreign += [key for key in state if not key.startswith(housed)]
    if foreign:
        raise KeyError(f'not keys of a ReLA model: {foreign[:5]} ({len(foreign)} in all)')
    return {**network, **add_prefix(bert, 'text_encoder.')}


# --- whole files ---------------------------------------------------------------


def checkpoint_to_ours(
    checkpoint: Mapping[str, Any], *, skip_lang_weight: bool = False, keep_gates: bool = False
) -> tuple[dict[str, Any], Converted]:
    """A released file -> (the file for MMEngine, what was found).

    Of ``{model, optimizer, scheduler, iteration}`` the weights and ``iteration`` are kept;
    weights without a place are under ``official_extra``.

    Args:
        checkpoint: The released file.
        skip_lang_weight: Leave the weight of the region-language attention at 0, its initial
            value, as the published loader does: its numbers were measured so. The value of
            the file stays under ``official_extra``.
        keep_gates: Use the layout with gates even if all are closed.

    Raises:
        ValueError: If it is not a complete ReLA file; all missing keys are listed.
    """
    if not isinstance(checkpoint.get('model'), Mapping):
        raise ValueError(f'a ReLA file has an entry "model"; found {sorted(checkpoint)[:8]}')
    state = without_module(checkpoint['model'])
    shared = bool(closed_gates(state)) and not keep_gates
    found = rela_to_ours(state, shared=shared)
    if found.missing:
        raise ValueError(f'not a complete ReLA file, missing: {found.missing}')
    if skip_lang_weight:
        found.extra[LANG_WEIGHT] = state[LANG_WEIGHT]
        found.state['decode_head.language.weight'] = torch.zeros_like(state[LANG_WEIGHT])
    official = dict(layout='rela', shared=shared, iteration=checkpoint.get('iteration'))
    meta = dict(official=official)
    return dict(meta=meta, state_dict=found.state, official_extra=found.extra), found


def checkpoint_from_ours(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`checkpoint_to_ours`; the gates of a model trained without are zeros."""
    official = checkpoint.get('meta', {}).get('official', {})
    state = rela_from_ours(checkpoint['state_dict'])
    state.update(checkpoint.get('official_extra', {}))
    text = {k: v for k, v in state.items() if k.startswith('text_encoder.')}
    for key in RELA_KEYS.missing(k for k in state if k not in text):
        if '.res_gate.' not in key:
            raise ValueError(f'not a complete ReLA model, missing: {key}')
        width = state[f'{key.split("res_gate")[0]}fusion.project_mm.0.bias']
        state[key] = torch.zeros(len(width), len(width), dtype=width.dtype)
    result: dict[str, Any] = dict(model=state)
    if official.get('iteration') is not None:
        result['iteration'] = official['iteration']
    return result
