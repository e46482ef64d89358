"""What all towers of ``transformers`` share: fetching by name, and saying how if it fails."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Callable, TypeVar

from torch import nn

from .weights import packaged_hint

T = TypeVar('T')


def fetch(name: str, load: Callable[[], T], setting: str = 'model.text_encoder.name') -> T:
    """Runs ``load``; if ``name`` is not to be had, says how to get it.

    Raises:
        OSError: With the command that fetches the files and the ``setting`` to change then.
    """
    try:
        return load()
    except (OSError, ValueError) as error:
        kind = 'text model' if 'text' in setting else 'model'
        tokenizer = ' (and .tokenizer, if set)' if 'text' in setting else ''
        raise OSError(
            f'the {kind} {name!r} is neither a complete local folder nor in the Hugging Face '
            f'cache, and could not be downloaded. On a machine with internet run '
            f'`hf download {name} --local-dir {Path(name).name}`, copy the folder here and set '
            f'{setting}{tokenizer} to its path.{packaged_hint(name)}'
        ) from error


def checkpoint_activations(model: Any, owner: str) -> None:
    """Non-reentrant activation checkpointing, in training.

    Raises:
        ValueError: The network has no such thing.
    """
    if not getattr(model, 'supports_gradient_checkpointing', False):
        raise ValueError(f'{owner}: {type(model).__name__} cannot checkpoint activations')
    with warnings.catch_warnings():  # renamed in transformers 5, removed in 6
        warnings.simplefilter('ignore', FutureWarning)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': False})


def keep_frozen(module: nn.Module) -> None:
    """No gradient, eval mode (call again after ``train()``)."""
    module.requires_grad_(False).eval()
