"""The keys of published layouts, and what a conversion found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

from torch import Tensor

from .files import State

SWIN_KEYS = """
patch_embed.{proj,norm}.{weight,bias}
layers.#.blocks.#.{norm1,norm2,attn.qkv,attn.proj,mlp.fc1,mlp.fc2}.{weight,bias}
layers.#.blocks.#.attn.{relative_position_bias_table,relative_position_index}
layers.{0,1,2}.downsample.{reduction.weight,norm.weight,norm.bias}
norm{0,1,2,3}.{weight,bias}
"""

BERT_KEYS = """
embeddings.{word_embeddings,position_embeddings,token_type_embeddings}.weight
embeddings.LayerNorm.{weight,bias}
encoder.layer.#.attention.self.{query,key,value}.{weight,bias}
encoder.layer.#.attention.output.{dense,LayerNorm}.{weight,bias}
encoder.layer.#.{intermediate.dense,output.dense,output.LayerNorm}.{weight,bias}
"""


class Converted(NamedTuple):
    """Weights of our network, what it has no place for, and what did not fit.

    state: ours. extra: entries of the release without a place in ours, known or not.
    unknown: keys of ``extra`` that no release has. missing: keys a release has to have.
    """

    state: State
    extra: State
    unknown: list[str]
    missing: list[str]


class KeyTable:
    """The keys of a published layout, written as patterns.

    ``{a,b}`` stands for either; ``#`` for an index that runs from 0 to the largest one
    seen. One pattern a line, or several separated by spaces.
    """

    def __init__(self, patterns: str) -> None:
        self.templates = [name for pattern in patterns.split() for name in _alternatives(pattern)]

    def unknown(self, keys: Iterable[str]) -> list[str]:
        """The keys that no pattern allows."""
        allowed = re.compile('|'.join(re.escape(t).replace(r'\#', r'\d+') for t in self.templates))
        return [key for key in keys if not allowed.fullmatch(key)]

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The keys that the patterns ask for and that are not there."""
        present = set(keys)
        wanted = (key for t in self.templates for key in _concrete(t, present))
        return [key for key in wanted if key not in present]


def _alternatives(pattern: str) -> list[str]:
    """``a.{b,c}.d`` -> ``['a.b.d', 'a.c.d']``."""
    parts = re.split(r'[{}]', pattern)  # odd places were inside braces
    choices = [part.split(',') if i % 2 else [part] for i, part in enumerate(parts)]
    return [''.join(choice) for choice in product(*choices)]


def _concrete(template: str, present: set[str]) -> list[str]:
    """Replace the ``#`` by all indices up to the largest in use; none in use: as it is."""
    head, hole, tail = template.partition('#')
    if not hole:
        return [template]
    indices = [int(key[len(head) :].partition('.')[0]) for key in present if key.startswith(head)]
    if not indices:
        return [template]
    return [key for i in range(max(indices) + 1) for key in _concrete(f'{head}{i}{tail}', present)]


def _renamed(key: str, source: str, target: str) -> str | None:
    """``key`` with its beginning ``source`` replaced, or None if it begins otherwise."""
    match = re.match(re.escape(source).replace(r'\#', r'(\d+)'), key)
    if match is None:
        return None
    number = match[1] if match.groups() else ''
    return target.replace('#', number) + key[match.end() :]


def rename_beginnings(
    state: Mapping[str, Tensor], names: tuple[tuple[str, str], ...], *, reverse: bool = False
) -> State:
    """Rename the beginnings of keys; those that no pair knows stay as they are."""
    pairs = [(ours, theirs) for theirs, ours in names] if reverse else names
    renamed = {}
    for key, value in state.items():
        candidates = (_renamed(key, source, target) for source, target in pairs)
        renamed[next((name for name in candidates if name is not None), key)] = value
    return renamed
