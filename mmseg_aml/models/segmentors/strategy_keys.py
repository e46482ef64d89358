"""Weights of a strategy in checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .text_image_segmentor import TextImageSegmentor


def without_strategy(
    model: TextImageSegmentor, state: dict[str, Any], prefix: str, *_: object
) -> None:
    """What a strategy learned goes to the same strategy only, and is missed by none.

    So weights of any training load into any other and into inference without a warning;
    resuming compares all keys (``check_fits``).
    """
    start = f'{prefix}loss_wrapper.'
    own = {} if model.loss_wrapper is None else model.loss_wrapper.state_dict(prefix=start)
    for key in [key for key in state if key.startswith(start)]:
        if key not in own or own[key].shape != state[key].shape:
            del state[key]
    for key, value in own.items():
        state.setdefault(key, value)
