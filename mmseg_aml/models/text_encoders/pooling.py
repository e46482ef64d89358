"""From token features to one vector a sentence, as the model itself was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor

Pool = Callable[[Any, Tensor], Tensor]
"""(output of the network, mask (E, L)) -> sentence (E, C)."""


def first(output: Any, mask: Tensor) -> Tensor:
    """The first position: [CLS] of BERT, <s> of RoBERTa and XLM-R."""
    return output.last_hidden_state[:, 0]


def last(output: Any, mask: Tensor) -> Tensor:
    """The last real token, which alone has read the whole sentence in a causal model."""
    hidden: Tensor = output.last_hidden_state
    index = mask.sum(1).clamp(min=1) - 1
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


def mean(output: Any, mask: Tensor) -> Tensor:
    """The mean of the real tokens: sentence-transformers, E5, T5."""
    hidden: Tensor = output.last_hidden_state
    weight = mask[..., None].to(hidden)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def own(output: Any, mask: Tensor) -> Tensor:
    """What the network itself pools: CLIP's closing token, SigLIP's last position."""
    return output.pooler_output


RECORD = '1_Pooling/config.json'
_RECORDED: dict[str, Pool] = {
    'pooling_mode_cls_token': first,
    'pooling_mode_mean_tokens': mean,
    'pooling_mode_lasttoken': last,
}


def pooling_of(name: str | None, settings: Any) -> Pool:
    """The pooling that fits the model.

    A sentence-transformers folder says it in ``1_Pooling/config.json``; else the family does:
    CLIP and SigLIP pool themselves, causal language models end in their last token, T5 has no
    token for the sentence and is averaged, all others start with one.

    Raises:
        ValueError: The record names a pooling that is not here.
    """
    recorded = _recorded(name) if name else None
    if recorded is not None:
        return recorded
    if settings.model_type in ('clip_text_model', 'siglip_text_model'):
        return own
    if is_causal(settings):
        return last
    return mean if is_sequence_to_sequence(settings) else first


def is_sequence_to_sequence(settings: Any) -> bool:
    """Whether the family has a decoder too, of which only the encoder is used (T5, mT5)."""
    from transformers.models.auto import modeling_auto as auto

    return type(settings) in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING


def is_causal(settings: Any) -> bool:
    """Whether ``transformers`` knows the family as a language model and not as an encoder."""
    from transformers.models.auto import modeling_auto as auto

    kind = type(settings)
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING and (
        kind not in auto.MODEL_FOR_MASKED_LM_MAPPING
    )


def write_record(pool: Pool, folder: Path) -> None:
    """Notes a recorded pooling beside a tokenizer, where :func:`pooling_of` finds it again."""
    mode = {function: mode for mode, function in _RECORDED.items()}.get(pool)
    if mode is not None:
        path = folder / RECORD
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({mode: True}), encoding='utf-8')


def _recorded(name: str) -> Pool | None:
    from transformers.utils.hub import cached_file

    record = Path(name) / RECORD
    if not Path(name).is_dir():
        try:
            found = cached_file(name, RECORD, _raise_exceptions_for_missing_entries=False)
        except OSError:
            found = None
        record = Path(found) if found else record
    if not record.is_file():
        return None
    modes = json.loads(record.read_text(encoding='utf-8'))
    chosen = [key for key, on in modes.items() if key.startswith('pooling_mode_') and on is True]
    if len(chosen) != 1 or chosen[0] not in _RECORDED:
        raise ValueError(f'{record} asks for {chosen}; supported is one of {sorted(_RECORDED)}')
    return _RECORDED[chosen[0]]
