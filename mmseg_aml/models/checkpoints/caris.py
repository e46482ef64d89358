"""Official CARIS, MaskRIS, AMLRIS, Swin and BERT weights -> ours, and back.

The three releases share one network. What ours has no place for (MaskRIS's never used
``mask_token``, AMLRIS's never trained ``aug.*``, the loss's weight buffer) is handed
back separately, so that the way back is without loss. So is what classification files of
Swin and language models of BERT have beyond the tower.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .files import State, add_prefix, state_of, with_prefix
from .layouts import BERT_KEYS, SWIN_KEYS, Converted, KeyTable
from .towers import bert_from_ours, bert_to_ours, swin_from_ours, swin_to_ours

_OWN_KEYS = """
backbone.conditional_prompts.{in_linears,out_linears}.#.{weight,bias}
backbone.conditional_prompts.{lang_prompts.weight,lang_prompts_norm.weight,lang_prompts_norm.bias}
pixel_decoder.input_convs.#.{conv,gn}.{weight,bias}
pixel_decoder.{level_encoding,vis_prompts}.weight
pixel_decoder.{lang_in_linear,lang_in_norm}.{weight,bias}
pixel_decoder.encoder.#.{gamma_v2l,gamma_l2v}
pixel_decoder.encoder.#.vis_self_attn.{sampling_offsets,attention_weights}.{weight,bias}
pixel_decoder.encoder.#.vis_self_attn.{value_proj,output_proj}.{weight,bias}
pixel_decoder.encoder.#.{v2l_cross_attn,l2v_cross_attn}.{q_proj,k_proj,v_proj,out_proj}.{weight,bias}
pixel_decoder.encoder.#.lang_self_attn.{q_proj,k_proj,v_proj,out_proj}.{weight,bias}
pixel_decoder.encoder.#.{vis_mlp,lang_mlp}.{fc1,fc2}.{weight,bias}
pixel_decoder.encoder.#.{v_norm1,v_norm2,v_norm3,l_norm1,l_norm2,l_norm3}.{weight,bias}
pixel_decoder.{lateral_convs,output_convs}.0.{conv.weight,gn.weight,gn.bias}
pixel_decoder.{mask_feature,lang_embed}.{0,2,4}.{weight,bias}
"""

CARIS_KEYS = KeyTable(
    ' '.join(f'backbone.vis_encoder.{key}' for key in SWIN_KEYS.split())
    + ' '
    + ' '.join(f'backbone.lang_encoder.{key}' for key in BERT_KEYS.split())
    + _OWN_KEYS
)

# What a classification file of Swin has to have: the levels' own norms come with us.
_SWIN_FILE_KEYS = KeyTable(SWIN_KEYS.replace('norm{0,1,2,3}.{weight,bias}', ''))
_SWIN_TOWER_KEYS = KeyTable(SWIN_KEYS)
_BERT_TOWER_KEYS = KeyTable(BERT_KEYS)

# Keys that a layout may have and our network has no place for.
EXTRA_KEYS = {
    'CARIS': KeyTable('criterion.seg_criterion.weight'),
    'MaskRIS': KeyTable('criterion.seg_criterion.weight backbone.vis_encoder.mask_token'),
    'AMLRIS': KeyTable('criterion.ce_loss.weight aug.{text_proj,fuse_gate}.{weight,bias}'),
    'Swin': KeyTable('{head,norm}.{weight,bias} layers.#.blocks.#.attn_mask'),
    'BERT': KeyTable(
        """
        embeddings.position_ids pooler.dense.{weight,bias} cls.seq_relationship.{weight,bias}
        cls.predictions.{bias,decoder.weight,decoder.bias}
        cls.predictions.transform.{dense,LayerNorm}.{weight,bias}
        """
    ),
}


def layout_of(state: Mapping[str, Tensor]) -> str:
    """Which of :data:`EXTRA_KEYS` a dict of weights is.

    Raises:
        ValueError: If it is none of them.
    """
    if any(key.startswith('pixel_decoder.') for key in state):
        if any(key.startswith('aug.') for key in state):
            return 'AMLRIS'
        return 'MaskRIS' if 'backbone.vis_encoder.mask_token' in state else 'CARIS'
    if any(key.startswith('layers.0.blocks.') for key in state):
        return 'Swin'
    if any(key.endswith('embeddings.word_embeddings.weight') for key in state):
        return 'BERT'
    raise ValueError(
        'expected weights of CARIS, MaskRIS, AMLRIS, Swin or BERT; '
        f'the first of {len(state)} keys are {list(state)[:5]}'
    )


def caris_to_ours(state: Mapping[str, Tensor]) -> Converted:
    """Rename an official ``model`` dict (without ``module.``)."""
    missing = CARIS_KEYS.missing(state)
    homeless = CARIS_KEYS.unknown(state)
    unknown = EXTRA_KEYS[layout_of(state)].unknown(homeless)
    housed = {key: value for key, value in state.items() if key not in set(homeless)}
    ours = {
        **add_prefix(swin_to_ours(with_prefix(housed, 'backbone.vis_encoder.')), 'backbone.'),
        **add_prefix(
            bert_to_ours(with_prefix(housed, 'backbone.lang_encoder.')), 'text_encoder.model.'
        ),
        **add_prefix(with_prefix(housed, 'backbone.conditional_prompts.'), 'text_encoder.prompts.'),
        **add_prefix(with_prefix(housed, 'pixel_decoder.'), 'decode_head.'),
    }
    return Converted(ours, {key: state[key] for key in homeless}, unknown, missing)


def caris_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`caris_to_ours`, without ``extra``.

    Raises:
        KeyError: If ``state`` has a key that is not CARIS's.
    """
    names = {
        'backbone.': ('backbone.vis_encoder.', swin_from_ours),
        'text_encoder.model.': ('backbone.lang_encoder.', bert_from_ours),
        'text_encoder.prompts.': ('backbone.conditional_prompts.', dict),
        'decode_head.': ('pixel_decoder.', dict),
    }
    foreign = [key for key in state if not key.startswith(tuple(names))]
    if foreign:
        raise KeyError(f'not keys of a CARIS model: {foreign[:5]} ({len(foreign)} in all)')
    official: State = {}
    for ours, (theirs, rename) in names.items():
        official.update(add_prefix(rename(with_prefix(state, ours)), theirs))
    return official


# --- towers --------------------------------------------------------------------


def swin_file_to_ours(state: Mapping[str, Tensor]) -> Converted:
    """Rename an official classification file of Swin to the ``backbone.`` of our models."""
    homeless = _SWIN_TOWER_KEYS.unknown(state)
    housed = {key: value for key, value in state.items() if key not in set(homeless)}
    return Converted(
        add_prefix(swin_to_ours(housed), 'backbone.'),
        {key: state[key] for key in homeless},
        EXTRA_KEYS['Swin'].unknown(homeless),
        _SWIN_FILE_KEYS.missing(state),
    )


def bert_file_to_ours(state: Mapping[str, Tensor]) -> Converted:
    """Rename a BERT file to the ``text_encoder.model.`` of our models."""
    renamed = bert_to_ours(state)
    names = dict(zip(renamed, state))  # ours -> theirs
    homeless = _BERT_TOWER_KEYS.unknown(renamed)
    housed = {key: value for key, value in renamed.items() if key not in set(homeless)}
    return Converted(
        add_prefix(housed, 'text_encoder.model.'),
        {names[key]: renamed[key] for key in homeless},
        [names[key] for key in EXTRA_KEYS['BERT'].unknown(homeless)],
        _BERT_TOWER_KEYS.missing(renamed),
    )


# --- whole files ---------------------------------------------------------------


def checkpoint_to_ours(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], Converted]:
    """An official file -> (the file for MMEngine, what was found).

    Of ``{model, optimizer, epoch, args, lr_scheduler, scaler}`` the weights, ``epoch`` and
    ``args`` are kept; weights without a place are under ``official_extra``.

    Raises:
        ValueError: If it is no complete file of a known layout; all missing keys are listed.
    """
    state = state_of(checkpoint)
    layout = layout_of(state)
    convert = {'Swin': swin_file_to_ours, 'BERT': bert_file_to_ours}.get(layout, caris_to_ours)
    found = convert(state)
    if found.missing:
        raise ValueError(f'not a complete {layout} file, missing: {found.missing}')
    official: dict[str, Any] = dict(layout=layout, epoch=checkpoint.get('epoch'))
    if isinstance(checkpoint.get('args'), Namespace):
        official['args'] = vars(checkpoint['args'])
    if layout == 'BERT':  # files differ in prefix and in the names of LayerNorm
        official['names'] = dict(zip(bert_to_ours(state), state))
    meta = dict(official=official)
    return dict(meta=meta, state_dict=found.state, official_extra=found.extra), found


def checkpoint_from_ours(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`checkpoint_to_ours`; a model trained here gets the layout ``CARIS``.

    Raises:
        ValueError: If the model is not complete; all missing keys are listed.
    """
    official = checkpoint.get('meta', {}).get('official', dict(layout='CARIS'))
    state, layout = checkpoint['state_dict'], official['layout']
    if layout == 'Swin':
        model, table = swin_from_ours(with_prefix(state, 'backbone.')), _SWIN_FILE_KEYS
    elif layout == 'BERT':
        model, table = with_prefix(state, 'text_encoder.model.'), _BERT_TOWER_KEYS
    else:
        model, table = caris_from_ours(state), CARIS_KEYS
    missing = table.missing(model)
    if missing:
        raise ValueError(f'not a complete {layout} model, missing: {missing}')
    if layout == 'BERT':
        model = {official['names'][key]: value for key, value in model.items()}
    result: dict[str, Any] = dict(model={**model, **checkpoint.get('official_extra', {})})
    if official.get('epoch') is not None:
        result['epoch'] = official['epoch']
    if 'args' in official:
        result['args'] = Namespace(**official['args'])
    return result
