"""Published weight files -> ours, and back.

``files`` reads, ``layouts`` knows the keys, ``towers`` renames Swin and BERT, ``caris``,
``lavt`` and ``rela`` whole networks.
"""

from .files import add_prefix, load_file, state_of, with_prefix
from .layouts import KeyTable
from .towers import (
    bert_from_ours,
    bert_to_ours,
    load_swin,
    merging_from_ours,
    merging_to_ours,
    resize_bias_table,
    swin_from_ours,
    swin_to_ours,
)

__all__ = [
    'KeyTable',
    'add_prefix',
    'bert_from_ours',
    'bert_to_ours',
    'load_file',
    'load_swin',
    'merging_from_ours',
    'merging_to_ours',
    'resize_bias_table',
    'state_of',
    'swin_from_ours',
    'swin_to_ours',
    'with_prefix',
]
