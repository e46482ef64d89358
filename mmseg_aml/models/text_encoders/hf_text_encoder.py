"""Text encoders of Hugging Face: the encoder owns its tokenizer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule

from ...registry import MODELS
from ...structures import TextFeatures, TextTokens
from ..adapters import add_adapter, load_base
from ..hugging_face import checkpoint_activations, fetch
from ..weights import locate
from .pooling import pooling_of
from .seen import SeenSentences
from .words import word_starts

ASSETS = Path(__file__).resolve().parents[2] / 'assets'


@MODELS.register_module()
class HFTextEncoder(BaseModule):
    """A text tower of ``transformers`` by name, in any language.

    Encoders (BERT, RoBERTa, XLM-R, DeBERTa, E5, MiniLM, KLUE-BERT, ...), the text half of CLIP
    and SigLIP, the encoder of T5 and mT5, and causal language models (GPT-2, Llama, Qwen,
    Gemma: their last hidden states). ``sentence`` is pooled as the model was trained:
    :func:`mmseg_aml.models.text_encoders.pooling.pooling_of`.

    The architecture comes from ``name`` (hub name or local folder) or from ``config``;
    pretrained weights are read in ``init_weights``, so a model that is going to load a
    checkpoint needs none. The pooler is left out: it would never get a gradient.

    Args:
        name: Hub name (``'bert-base-uncased'``) or local folder with the weights; some come with
            a package (:mod:`mmseg_aml.models.weights`).
        max_length: Text positions L, special tokens included (20 in LAVT and CARIS).
        config: Settings of ``transformers`` for an untrained network, with ``model_type``,
            e.g. ``dict(model_type='bert', hidden_size=64, ...)``. ``vocab_size`` is taken
            from the tokenizer.
        tokenizer: Hub name or local folder of the tokenizer. Default: ``name``;
            ``'tiny'`` is the small English word list that comes with this package.
        truncation: ``'special'`` keeps the closing special token of a sentence that is too
            long; ``'cut'`` keeps the first ``max_length`` ids, as LAVT and CARIS do.
        frozen: No gradient, always in eval mode.
        with_cp: Activation checkpointing (non-reentrant).
        adapter: LoRA and friends; see :func:`mmseg_aml.models.adapters.add_adapter`.

    Raises:
        ValueError: Neither ``name`` nor ``config`` given, an unknown ``truncation``, ``frozen``
            together with ``adapter``, or SigLIP at another length than it was trained at.
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
        with_cp: bool = False,
        adapter: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        name = name and locate(name)
        if name is None and (config is None or tokenizer is None):
            raise ValueError('HFTextEncoder needs a name, or a config and a tokenizer')
        if truncation not in ('special', 'cut'):
            raise ValueError(f"truncation must be 'special' or 'cut', got {truncation!r}")
        if frozen and adapter:
            raise ValueError('an adapter freezes the tower under it: drop frozen=True')
        self.name = None if config is not None else name
        self.max_length = max_length
        self.truncation = truncation
        self.frozen = frozen
        self.tokenizer = load_tokenizer(tokenizer or str(name))
        self.model: Any = build_text_model(name, config, len(self.tokenizer))
        local = tokenizer if tokenizer and Path(tokenizer).is_dir() else None
        self.pool = pooling_of(self.name or local, self.model.config)
        self.reads_padding = self.model.config.model_type == 'siglip_text_model'
        if self.reads_padding:
            self._check_length(self.model.config.max_position_embeddings)
        self.out_channels: int = self.model.config.hidden_size
        self._told_truncation = False
        self._seen = SeenSentences()
        if with_cp:
            checkpoint_activations(self.model, 'HFTextEncoder')
        if adapter:
            add_adapter(self, 'model', adapter)
        if frozen:
            self.model.requires_grad_(False).eval()

    def _check_length(self, trained: int) -> None:
        if self.max_length != trained:
            raise ValueError(
                'SigLIP reads its padding: it was trained on sentences padded to '
                f'{trained} tokens, so set model.text_encoder.max_length={trained} '
                f'(got {self.max_length})'
            )

    def init_weights(self) -> None:
        """Reads the pretrained weights, unless the encoder was built from ``config``."""
        if self.name is not None and not self.is_init:
            name = self.name
            pretrained = fetch(
                name,
                lambda: type(self.model).from_pretrained(name, **_loading(self.model.config)),
            )
            load_base(self.model, pretrained.state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> HFTextEncoder:
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def tokenize(self, expressions: Sequence[str]) -> TextTokens:
        """Token ids of E sentences, (E, L) each, on the CPU; no sentence is tokenised twice."""
        return self._seen.tokens(expressions, self._tokenize)

    def _tokenize(self, expressions: list[str]) -> TextTokens:
        encoded = self.tokenizer(expressions, add_special_tokens=True)
        rows = encoded['input_ids']
        too_long = [i for i, row in enumerate(rows) if len(row) > self.max_length]
        if too_long:
            self._tell_truncation(expressions[too_long[0]], len(rows[too_long[0]]))
        ids = torch.full((len(rows), self.max_length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(rows), self.max_length, dtype=torch.bool)
        starts = torch.zeros_like(mask)
        for i, row in enumerate(rows):
            kept = row[: self.max_length]
            if len(row) > self.max_length and self.truncation == 'special':
                kept[-1] = row[-1]
            ids[i, : len(kept)] = torch.tensor(kept)
            mask[i, : len(kept)] = True
            if encoded.encodings is not None:  # a fast tokenizer
                begins = word_starts(encoded.encodings[i], expressions[i])[: len(kept)]
                begins[-1] = begins[-1] and kept[-1] == row[len(kept) - 1]  # not the closing one
                starts[i, : len(kept)] = torch.tensor(begins)
        return TextTokens(ids, mask, starts if encoded.encodings is not None else None)

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
        """Encodes E sentences to tokens (E, L, C) and sentence (E, C)."""
        tokens = tokens.to(next(self.model.parameters()).device)
        attended = None if self.reads_padding else tokens.mask.long()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output = self.model(input_ids=tokens.ids, attention_mask=attended)
            sentence = self.pool(output, tokens.mask)
        return TextFeatures(output.last_hidden_state, tokens.mask, sentence)


def load_tokenizer(name: str) -> Any:
    """A fast tokenizer by hub name, local folder or ``'tiny'``."""
    from transformers import AutoTokenizer

    folder = str(ASSETS / 'tiny_tokenizer') if name == 'tiny' else name
    return fetch(folder, lambda: AutoTokenizer.from_pretrained(folder, use_fast=True))


def build_text_model(name: str | None, config: dict[str, Any] | None, vocab_size: int) -> Any:
    """An untrained network of ``transformers`` without idle parts, from ``config`` or ``name``."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    if config is not None:
        settings = _settings_of({'vocab_size': vocab_size, **config})
    else:
        source = str(name)
        settings = fetch(source, lambda: AutoConfig.from_pretrained(source))
    settings = getattr(settings, 'text_config', settings)
    tower = _tower(settings.model_type)
    if tower is not None:
        model = tower(settings)
        if settings.model_type == 'siglip_text_model':
            model.get_submodule(_head_of(model)).requires_grad_(False)  # read by `sentence` alone
        return model
    if settings.is_encoder_decoder:
        return AutoModelForTextEncoding.from_config(settings)
    return AutoModel.from_config(settings, **_no_pooler(settings))


# What transformers' automatic classes leave out: the text halves of two models of pairs.
_TOWERS = {
    'clip_text_model': ('CLIPTextConfig', 'CLIPTextModel'),
    'siglip_text_model': ('SiglipTextConfig', 'SiglipTextModel'),
}


def _settings_of(config: dict[str, Any]) -> Any:
    import transformers

    kind = config['model_type']
    if kind in _TOWERS:
        return getattr(transformers, _TOWERS[kind][0])(**config)
    return transformers.AutoConfig.for_model(**config)


def _tower(model_type: str) -> Any:
    """Imported only when wanted: each takes a quarter of a second."""
    import transformers

    return getattr(transformers, _TOWERS[model_type][1]) if model_type in _TOWERS else None


def _head_of(model: Any) -> str:
    return next(n for n, _ in model.named_modules() if n.split('.')[-1] == 'head')


def _no_pooler(settings: Any) -> dict[str, Any]:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    model = MODEL_MAPPING[type(settings)]
    takes = inspect.signature(model.__init__).parameters
    return {'add_pooling_layer': False} if 'add_pooling_layer' in takes else {}


def _loading(settings: Any) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` that rebuild what :func:`build_text_model` built."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    plain = _tower(settings.model_type) is None and not settings.is_encoder_decoder
    return _no_pooler(settings) if plain and type(settings) in MODEL_MAPPING else {}
