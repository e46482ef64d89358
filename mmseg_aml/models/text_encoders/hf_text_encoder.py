"""Text encoders of Hugging Face: the encoder owns its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ...structures import TextFeatures, TextTokens

T = TypeVar('T')
ASSETS = Path(__file__).resolve().parents[2] / 'assets'


@MODELS.register_module()
class HFTextEncoder(BaseModule):
    """BERT, RoBERTa, CLIP-text or another encoder of ``transformers``.

    The architecture comes from ``name`` (hub name or local folder) or from ``config``;
    pretrained weights are read in ``init_weights``, so a model that is going to load a
    checkpoint needs none. The pooler is left out: it would never get a gradient.

    Args:
        name: Hub name (``'bert-base-uncased'``) or local folder with the weights.
        max_length: Text positions L, special tokens included (20 in LAVT and CARIS).
        config: Settings of ``transformers`` for an untrained network, with ``model_type``,
            e.g. ``dict(model_type='bert', hidden_size=64, ...)``. ``vocab_size`` is taken
            from the tokenizer.
        tokenizer: Hub name or local folder of the tokenizer. Default: ``name``;
            ``'tiny'`` is the small English word list that comes with this package.
        truncation: ``'special'`` keeps the closing special token of a sentence that is too
            long; ``'cut'`` keeps the first ``max_length`` ids, as LAVT and CARIS do.
        frozen: No gradient, always in eval mode.

    Raises:
        ValueError: Neither ``name`` nor ``config`` given, or an unknown ``truncation``.
        OSError: The model is neither on disk nor reachable; says how to fetch it.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        max_length: int = 20,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        truncation: str = 'special',
        frozen: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if name is None and (config is None or tokenizer is None):
            raise ValueError('HFTextEncoder needs a name, or a config and a tokenizer')
        if truncation not in ('special', 'cut'):
            raise ValueError(f"truncation must be 'special' or 'cut', got {truncation!r}")
        self.name = None if config is not None else name
        self.max_length = max_length
        self.truncation = truncation
        self.frozen = frozen
        self.tokenizer = load_tokenizer(tokenizer or str(name))
        self.model = build_text_model(name, config, len(self.tokenizer))
        self.out_channels: int = self.model.config.hidden_size
        self._told_truncation = False
        if frozen:
            self.model.requires_grad_(False).eval()

    def init_weights(self) -> None:
        """Reads the pretrained weights, unless the encoder was built from ``config``."""
        if self.name is not None and not self.is_init:
            name = self.name
            pretrained = fetch(
                name,
                lambda: type(self.model).from_pretrained(name, **_no_pooler(self.model.config)),
            )
            self.model.load_state_dict(pretrained.state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> HFTextEncoder:
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def tokenize(self, expressions: Sequence[str]) -> TextTokens:
        """Token ids of E sentences, (E, L) each, on the module's device."""
        rows = self.tokenizer(list(expressions), add_special_tokens=True)['input_ids']
        too_long = [i for i, row in enumerate(rows) if len(row) > self.max_length]
        if too_long:
            self._tell_truncation(expressions[too_long[0]], len(rows[too_long[0]]))
        ids = torch.full((len(rows), self.max_length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(rows), self.max_length, dtype=torch.bool)
        for i, row in enumerate(rows):
            kept = row[: self.max_length]
            if len(row) > self.max_length and self.truncation == 'special':
                kept[-1] = row[-1]
            ids[i, : len(kept)] = torch.tensor(kept)
            mask[i, : len(kept)] = True
        device = next(self.model.parameters()).device
        return TextTokens(ids.to(device), mask.to(device))

    def _tell_truncation(self, expression: str, length: int) -> None:
        if not self._told_truncation:
            print_log(
                f'an expression of {length} tokens is cut to max_length={self.max_length} '
                f'({expression[:60]!r}...); further ones are cut without notice',
                'current',
                level=30,
            )
        self._told_truncation = True

    def forward(self, tokens: TextTokens) -> TextFeatures:
        """Encodes E sentences to tokens (E, L, C) and sentence (E, C).

        ``sentence`` is the first position ([CLS]); for CLIP the closing token.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output = self.model(input_ids=tokens.ids, attention_mask=tokens.mask.long())
        hidden: Tensor = output.last_hidden_state
        pooled = output.pooler_output if self.model.config.model_type == 'clip_text_model' else None
        return TextFeatures(hidden, tokens.mask, hidden[:, 0] if pooled is None else pooled)


def load_tokenizer(name: str) -> Any:
    """A fast tokenizer by hub name, local folder or ``'tiny'``."""
    from transformers import AutoTokenizer

    folder = str(ASSETS / 'tiny_tokenizer') if name == 'tiny' else name
    return fetch(folder, lambda: AutoTokenizer.from_pretrained(folder, use_fast=True))


def build_text_model(name: str | None, config: dict[str, Any] | None, vocab_size: int) -> Any:
    """An untrained network of ``transformers`` without pooler, from ``config`` or ``name``."""
    from transformers import AutoConfig, AutoModel, CLIPTextConfig, CLIPTextModel

    if config is not None:
        config = {'vocab_size': vocab_size, **config}
        # The AutoConfig of older transformers does not know CLIP's text tower by itself.
        clip = config['model_type'] == 'clip_text_model'
        settings: Any = CLIPTextConfig(**config) if clip else AutoConfig.for_model(**config)
    else:
        source = str(name)
        settings = fetch(source, lambda: AutoConfig.from_pretrained(source))
    settings = getattr(settings, 'text_config', settings)
    if settings.model_type == 'clip_text_model':
        return CLIPTextModel(settings)
    return AutoModel.from_config(settings, **_no_pooler(settings))


def _no_pooler(config: Any) -> dict[str, Any]:
    return {'add_pooling_layer': False} if config.model_type in ('bert', 'roberta') else {}


def fetch(name: str, load: Callable[[], T]) -> T:
    """Runs ``load``; if ``name`` is not to be had, says how to get it.

    Raises:
        OSError: With the command that fetches the files and what to set then.
    """
    try:
        return load()
    except (OSError, ValueError) as error:
        raise OSError(
            f'the text model {name!r} is neither a complete local folder nor in the Hugging Face '
            f'cache, and could not be downloaded. On a machine with internet run '
            f'`hf download {name} --local-dir {Path(name).name}`, copy the folder here and set '
            f'model.text_encoder.name (and .tokenizer, if set) to its path.'
        ) from error
