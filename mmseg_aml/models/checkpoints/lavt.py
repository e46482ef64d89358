"""Official LAVT weights -> ours, and back.

``lavt`` keeps BERT beside the network (entry ``bert_model`` of its files), ``lavt_one``
inside it (``text_encoder.``); here both are one model. The published network holds a gate
after the last stage whose result it throws away: ours has no place for it, so it is handed
back separately, as everything unknown is, and the way back is without loss.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...engine.checkpoints import without_module
from .files import State, add_prefix, with_prefix
from .layouts import BERT_KEYS, SWIN_KEYS, Converted, KeyTable, rename_beginnings
from .towers import bert_from_ours, bert_to_ours, swin_from_ours, swin_to_ours

LAVT_KEYS = KeyTable(
    ' '.join(f'backbone.{key}' for key in SWIN_KEYS.split())
    + """
backbone.layers.#.fusion.{vis_project,project_mm}.0.{weight,bias}
backbone.layers.#.fusion.image_lang_att.{f_query,f_key,f_value,W}.0.{weight,bias}
backbone.layers.#.res_gate.{0,2}.weight
classifier.{conv1_4,conv2_4,conv1_3,conv2_3,conv1_2,conv2_2}.weight
classifier.{bn1_4,bn2_4,bn1_3,bn2_3,bn1_2,bn2_2}.{weight,bias,running_mean,running_var}
classifier.{bn1_4,bn2_4,bn1_3,bn2_3,bn1_2,bn2_2}.num_batches_tracked
classifier.conv1_1.{weight,bias}
"""
)
TEXT_KEYS = KeyTable(BERT_KEYS)

# (official, ours), of one stage; ``#`` is its number.
_STAGE_NAMES = (
    ('layers.#.fusion.vis_project.0.', 'fusions.#.visual.'),
    ('layers.#.fusion.image_lang_att.f_query.0.', 'fusions.#.query.'),
    ('layers.#.fusion.image_lang_att.f_key.0.', 'fusions.#.key.'),
    ('layers.#.fusion.image_lang_att.f_value.0.', 'fusions.#.value.'),
    ('layers.#.fusion.image_lang_att.W.0.', 'fusions.#.words.'),
    ('layers.#.fusion.project_mm.0.', 'fusions.#.out.'),
    ('layers.#.res_gate.0.', 'gates.#.fc1.'),
    ('layers.#.res_gate.2.', 'gates.#.fc2.'),
)
# The decoder counts its levels by the stage they read, ours from coarse to fine.
_DECODER_NAMES = (('conv1_1.', 'conv_seg.'),) + tuple(
    (f'{theirs}{i}_{4 - level}.', f'levels.{level}.{ours}{i}.')
    for level in range(3)
    for i in (1, 2)
    for theirs, ours in (('conv', 'conv'), ('bn', 'norm'))
)


def backbone_to_ours(state: Mapping[str, Tensor]) -> State:
    """Names of an image tower with PWAM and gates (LAVT, ReLA), without ``backbone.``."""
    renamed = rename_beginnings(state, _STAGE_NAMES)
    fusion = {k: v for k, v in renamed.items() if k.startswith(('fusions.', 'gates.'))}
    swin = {k: v for k, v in renamed.items() if k not in fusion}
    # Convolutions of kernel 1 are linear layers here.
    fusion = {k: v.squeeze(-1) if v.ndim == 3 else v for k, v in fusion.items()}
    return {**swin_to_ours(swin), **fusion}


def backbone_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`backbone_to_ours`."""
    fusion = {k: v for k, v in state.items() if k.startswith(('fusions.', 'gates.'))}
    swin = {k: v for k, v in state.items() if k not in fusion}
    fusion = {
        k: v.unsqueeze(-1) if k.startswith('fusions.') and v.ndim == 2 else v
        for k, v in fusion.items()
    }
    return {**swin_from_ours(swin), **rename_beginnings(fusion, _STAGE_NAMES, reverse=True)}


def unused_gate(state: Mapping[str, Tensor]) -> State:
    """The weights of an official ``model`` dict that the published network never uses."""
    stages = [int(key.split('.')[2]) for key in state if key.startswith('backbone.layers.')]
    return {k: v for k, v in state.items() if f'layers.{max(stages, default=0)}.res_gate.' in k}


def lavt_to_ours(state: Mapping[str, Tensor]) -> Converted:
    """Rename an official ``model`` dict (without ``module.``), BERT under ``text_encoder.``.

    Without any BERT key (the layout ``lavt``, whose BERT has not been added) none is missing.
    """
    text = with_prefix(state, 'text_encoder.')
    network = {key: v for key, v in state.items() if not key.startswith('text_encoder.')}
    bert = bert_to_ours(text)
    missing = LAVT_KEYS.missing(network) + (TEXT_KEYS.missing(bert) if bert else [])
    unknown = LAVT_KEYS.unknown(network)
    # An unknown key keeps its official name, in whatever style the file has it.
    unknown += [f'text_encoder.{k}' for k, n in zip(text, bert) if TEXT_KEYS.unknown([n])]
    homeless = {*unknown, *unused_gate(network)}
    housed = {key: value for key, value in state.items() if key not in homeless}
    bert = bert_to_ours(with_prefix(housed, 'text_encoder.'))
    decoder = rename_beginnings(with_prefix(housed, 'classifier.'), _DECODER_NAMES)
    ours = {
        **add_prefix(backbone_to_ours(with_prefix(housed, 'backbone.')), 'backbone.'),
        **add_prefix(bert, 'text_encoder.model.'),
        **add_prefix(decoder, 'decode_head.'),
    }
    return Converted(ours, {k: v for k, v in state.items() if k in homeless}, unknown, missing)


def lavt_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`lavt_to_ours`, without ``extra``; BERT under ``text_encoder.``.

    Raises:
        KeyError: If ``state`` has a key that is not LAVT's.
    """
    decoder = rename_beginnings(with_prefix(state, 'decode_head.'), _DECODER_NAMES, reverse=True)
    bert = bert_from_ours(with_prefix(state, 'text_encoder.model.'))
    network = {
        **add_prefix(backbone_from_ours(with_prefix(state, 'backbone.')), 'backbone.'),
        **add_prefix(decoder, 'classifier.'),
    }
    foreign = LAVT_KEYS.unknown(network) + TEXT_KEYS.unknown(bert)
    housed = ('backbone.', 'decode_head.', 'text_encoder.model.')
    foreign += [key for key in state if not key.startswith(housed)]
    if foreign:
        raise KeyError(f'not keys of a LAVT model: {foreign[:5]} ({len(foreign)} in all)')
    return {**network, **add_prefix(bert, 'text_encoder.')}


# --- whole files ---------------------------------------------------------------


def checkpoint_to_ours(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], Converted]:
    """A released file -> (the file for MMEngine, what was found).

    Of ``{model, bert_model?, optimizer, epoch, args, lr_scheduler}`` the weights, ``epoch``
    and ``args`` are kept; weights without a place are under ``official_extra``.

    Raises:
        ValueError: If it is not a complete LAVT file; all missing keys are listed.
    """
    if not isinstance(checkpoint.get('model'), Mapping):
        raise ValueError(f'a LAVT file has an entry "model"; found {sorted(checkpoint)[:8]}')
    state = without_module(checkpoint['model'])
    layout = 'lavt' if 'bert_model' in checkpoint else 'lavt_one'
    if layout == 'lavt':
        state.update(add_prefix(without_module(checkpoint['bert_model']), 'text_encoder.'))
    found = lavt_to_ours(state)
    if found.missing:
        raise ValueError(f'not a complete LAVT file, missing: {found.missing}')
    official = dict(layout=layout, epoch=checkpoint.get('epoch'))
    if 'args' in checkpoint:
        official['args'] = vars(checkpoint['args'])
    meta = dict(official=official)
    return dict(meta=meta, state_dict=found.state, official_extra=found.extra), found


def checkpoint_from_ours(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`checkpoint_to_ours`; a model trained here gets the layout ``lavt``.

    The unused gate of a model trained here is zeros.
    """
    official = checkpoint.get('meta', {}).get('official', dict(layout='lavt'))
    state = lavt_from_ours(checkpoint['state_dict'])
    state.update(checkpoint.get('official_extra', {}))
    for key in LAVT_KEYS.missing(k for k in state if not k.startswith('text_encoder.')):
        if '.res_gate.' not in key:
            raise ValueError(f'not a complete LAVT model, missing: {key}')
        width = state[f'{key.split("res_gate")[0]}fusion.project_mm.0.bias']
        state[key] = torch.zeros(len(width), len(width), dtype=width.dtype)
    result: dict[str, Any] = dict(model=state)
    if official['layout'] == 'lavt':
        result['bert_model'] = with_prefix(state, 'text_encoder.')
        result['model'] = {k: v for k, v in state.items() if not k.startswith('text_encoder.')}
    if official.get('epoch') is not None:
        result['epoch'] = official['epoch']
    if 'args' in official:
        result['args'] = Namespace(**official['args'])
    return result
