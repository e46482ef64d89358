"""Official DETRIS weights -> ours, and back: three prefixes, and two weights nobody uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...engine.checkpoints import without_module
from .files import State
from .layouts import Converted, KeyTable

_ADAPTER = ' '.join(
    f'adapter.{module}.{{{entries}}}'
    for branch in ('dense_branch1', 'dense_branch{2,3}.{0,1}')
    for module, entries in (
        (f'{branch}.conv', 'weight,bias'),
        (f'{branch}.bn', 'weight,bias,running_mean,running_var,num_batches_tracked'),
    )
)
_ADAPTER_LINEARS = 'adapter.{D_fc1,D_fc2}.{weight,bias}'
_BN = '{weight,bias,running_mean,running_var,num_batches_tracked}'
_ATTENTION = '{in_proj_weight,in_proj_bias,out_proj.weight,out_proj.bias}'

# Blocks without an adapter are as good as those with one: the adapters' keys are optional.
DETRIS_KEYS = KeyTable(f"""
txt_backbone.{{positional_embedding,text_projection,logit_scale,token_embedding.weight}}
txt_backbone.ln_final.{{weight,bias}}
txt_backbone.transformer.resblocks.#.attn.{_ATTENTION}
txt_backbone.transformer.resblocks.#.{{ln_1,ln_2,mlp.c_fc,mlp.c_proj}}.{{weight,bias}}
dinov2.{{cls_token,pos_embed,register_tokens,mask_token}}
dinov2.{{patch_embed.proj,norm}}.{{weight,bias}}
dinov2.blocks.#.{{norm1,norm2,attn.qkv,attn.proj,mlp.fc1,mlp.fc2}}.{{weight,bias}}
dinov2.blocks.#.{{ls1,ls2}}.gamma
neck.fusion{{3,4,5}}.multihead_attn.{_ATTENTION}
neck.txt_proj.{{weight,bias}}
neck.{{f3_proj,f4_proj,f5_proj,aggr,coordconv.0.conv1,coordconv.1}}.0.weight
neck.{{f3_proj,f4_proj,f5_proj,aggr,coordconv.0.conv1,coordconv.1}}.1.{_BN}
decoder.layers.#.{{self_attn,multihead_attn}}.{_ATTENTION}
decoder.layers.#.{{self_attn_norm,cross_attn_norm,norm1,norm2,norm3}}.{{weight,bias}}
decoder.layers.#.ffn.{{0,3,4}}.{{weight,bias}}
decoder.norm.{{weight,bias}}
proj.vis.{{1,3}}.0.weight
proj.vis.{{1,3}}.1.{_BN}
proj.{{vis.4,txt}}.{{weight,bias}}
""")
_ADAPTED = KeyTable(
    ' '.join(
        f'{tower}.#.{key}'
        for tower in ('txt_backbone.transformer.resblocks', 'dinov2.blocks')
        for key in (*_ADAPTER.split(), _ADAPTER_LINEARS)
    )
    + f"""
dinov2.blocks.#.adapter.cross.multihead_attn.{_ATTENTION}
dinov2.blocks.#.adapter.cross.{{image_proj,text_proj,back_proj}}.{{weight,bias}}
"""
)
# (official, ours); nothing else about the names differs.
_PREFIXES = (
    ('txt_backbone.', 'text_encoder.'),
    ('dinov2.', 'backbone.'),
    ('neck.', 'decode_head.neck.'),
    ('decoder.', 'decode_head.decoder.'),
    ('proj.', 'decode_head.proj.'),
)
UNUSED = ('txt_backbone.logit_scale', 'dinov2.mask_token')
_META = ('epoch', 'cur_iou', 'best_iou', 'prec')


def _renamed(key: str, *, reverse: bool) -> str | None:
    for theirs, ours in _PREFIXES:
        source, target = (ours, theirs) if reverse else (theirs, ours)
        if key.startswith(source):
            return target + key[len(source) :]
    return None


def _missing(keys: Mapping[str, Tensor]) -> list[str]:
    """Keys that the layout asks for; a block with any part of an adapter needs all of it."""
    blocks = {key.split('.adapter.')[0] for key in keys if '.adapter.' in key}
    wanted = {
        f'{block}.adapter.{template.split(".adapter.")[1]}'
        for block in blocks
        for template in _ADAPTED.templates
        if template.startswith(block.split('.')[0])
    }
    return DETRIS_KEYS.missing(keys) + sorted(wanted - keys.keys())


def detris_to_ours(state: Mapping[str, Tensor]) -> Converted:
    """Rename an official ``state_dict`` (without ``module.``).

    ``extra`` holds CLIP's temperature and DINOv2's mask token, which DETRIS never uses, and
    whatever is unknown.
    """
    unknown = _ADAPTED.unknown(DETRIS_KEYS.unknown(state))
    extra = {key: value for key, value in state.items() if key in UNUSED or key in unknown}
    ours = {
        str(_renamed(key, reverse=False)): value for key, value in state.items() if key not in extra
    }
    return Converted(ours, extra, unknown, _missing(state))


def detris_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`detris_to_ours`, without ``extra``.

    Raises:
        KeyError: If ``state`` has a key that is not DETRIS's.
    """
    official = {key: _renamed(key, reverse=True) for key in state}
    names = [name for name in official.values() if name is not None]
    bad = set(_ADAPTED.unknown(DETRIS_KEYS.unknown(names)))
    foreign = [key for key, name in official.items() if name is None or name in bad]
    if foreign:
        raise KeyError(f'not keys of a DETRIS model: {foreign[:5]} ({len(foreign)} in all)')
    return {str(official[key]): value for key, value in state.items()}


def checkpoint_to_ours(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], Converted]:
    """A released file -> (the file for MMEngine, what was found).

    Of ``{epoch, cur_iou, best_iou, prec, state_dict, optimizer, scheduler}`` the weights and
    the numbers are kept (``best_iou`` is the best before this epoch); weights without a
    place are under ``official_extra``.

    Raises:
        ValueError: If it is not a complete DETRIS file; all missing keys are listed.
    """
    if not isinstance(checkpoint.get('state_dict'), Mapping):
        raise ValueError(f'a DETRIS file has an entry "state_dict"; found {sorted(checkpoint)[:8]}')
    found = detris_to_ours(without_module(checkpoint['state_dict']))
    if found.missing:
        raise ValueError(f'not a complete DETRIS file, missing: {found.missing}')
    official = {key: checkpoint[key] for key in _META if key in checkpoint}
    meta = dict(official=dict(layout='detris', **official))
    return dict(meta=meta, state_dict=found.state, official_extra=found.extra), found


def checkpoint_from_ours(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`checkpoint_to_ours`; keys get the prefix ``module.`` again.

    For a model trained here the unused weights are CLIP's final temperature (ln 100) and a
    mask token of zeros.
    """
    state = detris_from_ours(checkpoint['state_dict'])
    state.update(checkpoint.get('official_extra', {}))
    cls_token = state.get('dinov2.cls_token')
    if cls_token is not None:
        state.setdefault('dinov2.mask_token', torch.zeros_like(cls_token[0]))
    state.setdefault('txt_backbone.logit_scale', torch.tensor(math.log(100.0)))
    missing = _missing(state)
    if missing:
        raise ValueError(f'not a complete DETRIS model, missing: {missing}')
    official = dict(checkpoint.get('meta', {}).get('official', {}))
    official.pop('layout', None)
    return {**official, 'state_dict': {f'module.{key}': value for key, value in state.items()}}
