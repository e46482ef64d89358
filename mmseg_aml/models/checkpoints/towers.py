"""Official Swin and BERT weights: renaming their keys, in both directions.

Official Swin files, and the vision towers of CARIS and LAVT, name and order some
parameters differently from mmseg's Swin; BERT files come with prefixes and old names.
Whatever has no place is listed for the caller, never dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from .files import State, load_file, state_of, with_prefix

# (official, ours), regular expressions anchored by the segment borders they contain.
_SWIN_NAMES = (
    ('patch_embed.proj.', 'patch_embed.projection.'),
    ('.mlp.fc1.', '.ffn.layers.0.0.'),
    ('.mlp.fc2.', '.ffn.layers.1.'),
    ('.attn.', '.attn.w_msa.'),
)


class LoadReport(NamedTuple):
    """What did not fit when a file was loaded into a module; each a list of keys."""

    missing: list[str]
    unexpected: list[str]
    resized: list[str]

    def __str__(self) -> str:
        parts = (f'{len(keys)} {name} {keys}' for name, keys in self._asdict().items() if keys)
        return '; '.join(parts) or 'all keys match'


# --- Swin --------------------------------------------------------------------


def merging_to_ours(value: Tensor) -> Tensor:
    """Reorder the last axis (4C) of patch merging from the official order to mmseg's.

    Official: phase-major, phases (row0,col0), (row1,col0), (row0,col1), (row1,col1).
    mmseg (``nn.Unfold``): channel-major, phases (0,0), (0,1), (1,0), (1,1).
    """
    phases = value.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return phases.transpose(-1, -2).flatten(-2)


def merging_from_ours(value: Tensor) -> Tensor:
    """Inverse of :func:`merging_to_ours`."""
    phases = value.unflatten(-1, (-1, 4)).transpose(-1, -2)
    return phases[..., [0, 2, 1, 3], :].flatten(-2)


def swin_to_ours(state: Mapping[str, Tensor]) -> State:
    """Official Swin keys (``layers.0.blocks...``) -> mmseg's; foreign keys stay as they are."""
    converted = {}
    for key, value in state.items():
        name = re.sub(r'^layers\.', 'stages.', key)
        if name.startswith('stages.') or name.startswith('patch_embed.'):
            for theirs, ours in _SWIN_NAMES:
                name = name.replace(theirs, ours)
        converted[name] = merging_to_ours(value) if '.downsample.' in name else value
    return converted


def swin_from_ours(state: Mapping[str, Tensor]) -> State:
    """Inverse of :func:`swin_to_ours`."""
    converted = {}
    for key, value in state.items():
        name = key
        if name.startswith('stages.') or name.startswith('patch_embed.'):
            for theirs, ours in _SWIN_NAMES:
                name = name.replace(ours, theirs)
        value = merging_from_ours(value) if '.downsample.' in name else value
        converted[re.sub(r'^stages\.', 'layers.', name)] = value
    return converted


def resize_bias_table(table: Tensor, length: int) -> Tensor:
    """Bicubic resize of a ((2w-1)², heads) relative position bias table to another window."""
    old, new = int(table.shape[0] ** 0.5), int(length**0.5)
    image = table.float().T.reshape(1, -1, old, old)
    return F.interpolate(image, size=(new, new), mode='bicubic').flatten(2)[0].T.contiguous()


def load_swin(backbone: nn.Module, path: str | Path) -> LoadReport:
    """Load an official or an mmseg Swin file into a backbone with mmseg's names.

    Takes classification files and the ``backbone.`` part of detectors and segmentors.

    Raises:
        ValueError: If no key fits, or a shape differs by more than the window size.
    """
    state = state_of(load_file(path))
    own = backbone.state_dict()
    for prefix in ('backbone.vis_encoder.', 'backbone.'):
        if any(key.startswith(prefix) for key in state):
            rest = {k: v for k, v in state.items() if not k.startswith(prefix)}
            state = {**rest, **with_prefix(state, prefix)}
            break
    if any(key.startswith('layers.') for key in state):
        state = swin_to_ours(state)
    fitting, resized = {}, []
    for key in own.keys() & state.keys():
        value = state[key]
        if key.endswith('relative_position_bias_table') and value.shape != own[key].shape:
            value = resize_bias_table(value, own[key].shape[0])
            resized.append(key)
        if key.endswith('relative_position_index'):
            continue  # a constant of the window size
        if value.shape != own[key].shape:
            raise ValueError(
                f'{path}: {key} has shape {tuple(value.shape)}, the backbone needs '
                f'{tuple(own[key].shape)}; choose the config of that Swin size'
            )
        fitting[key] = value
    if not fitting:
        raise ValueError(f'{path}: no key fits a Swin backbone; first keys {list(state)[:5]}')
    backbone.load_state_dict(fitting, strict=False)
    missing = [k for k in own if k not in state and 'relative_position_index' not in k]
    return LoadReport(missing, sorted(state.keys() - own.keys()), sorted(resized))


# --- BERT --------------------------------------------------------------------


def bert_to_ours(state: Mapping[str, Tensor]) -> State:
    """Keys of any BERT file -> those of Hugging Face's ``BertModel``.

    Cuts ``bert.`` and renames the LayerNorm's ``gamma``/``beta`` of old files; foreign
    keys (``cls.*``) stay as they are.
    """
    names = (key[5:] if key.startswith('bert.') else key for key in state)
    names = (re.sub(r'(LayerNorm)\.gamma$', r'\1.weight', name) for name in names)
    names = (re.sub(r'(LayerNorm)\.beta$', r'\1.bias', name) for name in names)
    return dict(zip(names, state.values()))


def bert_from_ours(state: Mapping[str, Tensor]) -> State:
    """``BertModel`` keys -> the keys of the RIS releases: the same names."""
    return dict(state)
