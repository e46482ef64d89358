"""DETRIS's text tower: a frozen CLIP with adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_aml.models.layers.dense_adapter import TextAdapter
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures, TextTokens

from .clip_tokenizer import clean_text, load_clip_tokenizer
from .hf_text_encoder import fetch, load_tokenizer
from .seen import SeenSentences

# (transformers' CLIPTextModelWithProjection, CLIP's release)
_NAMES = (
    (r'^(text_model\.)?embeddings\.token_embedding\.', 'token_embedding.'),
    (r'^(text_model\.)?embeddings\.position_embedding\.weight', 'positional_embedding'),
    (r'^(text_model\.)?final_layer_norm\.', 'ln_final.'),
    (r'^(text_model\.)?encoder\.layers\.', 'transformer.resblocks.'),
    (r'\.self_attn\.', '.attn.'),
    (r'\.layer_norm([12])\.', r'.ln_\1.'),
    (r'\.mlp\.fc1\.', '.mlp.c_fc.'),
    (r'\.mlp\.fc2\.', '.mlp.c_proj.'),
)


class QuickMLP(nn.Module):
    """CLIP's MLP, with x * sigmoid(1.702 x) between its layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c_fc(x)
        return self.c_proj(h * (1.702 * h).sigmoid())


class ResidualBlock(nn.Module):
    """Causal pre-norm transformer layer; the adapter reads what the MLP's norm reads."""

    def __init__(self, width: int, heads: int, adapter: TextAdapter | None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = QuickMLP(width)
        self.ln_2 = nn.LayerNorm(width)
        self.adapter = adapter

    def forward(self, x: Tensor, causal: Tensor, scale: float) -> Tensor:
        """(E, L, C) and (L, L) bool, True = hidden -> (E, L, C)."""
        z = self.ln_1(x)
        x = x + self.attn(z, z, z, attn_mask=causal, need_weights=False)[0]
        update = self.mlp(self.ln_2(x))
        if self.adapter is not None:
            update = update + scale * self.adapter(x)
        return x + update


class Transformer(nn.Module):
    """The stack of layers, under CLIP's name ``resblocks``."""

    def __init__(self, blocks: Sequence[ResidualBlock]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)


@MODELS.register_module()
class DETRISTextEncoder(BaseModule):
    """CLIP's text tower with dense adapters (https://arxiv.org/abs/2501.08580).

    Parameter names are CLIP's. All ``max_length`` slots are encoded, since the adapters'
    convolutions see padding too. Slots of id 0 count as padding; in CLIP's vocabulary that
    is also the unit "!" inside a word, as published.

    Args:
        name: CLIP of ``transformers`` (hub name or folder) with the pretrained weights,
            read in ``init_weights``; published: ``'openai/clip-vit-base-patch16'``.
        tokenizer: ``'clip'`` (comes with MMSegmentation), or as of :class:`HFTextEncoder`
            for a tower without pretrained weights; its padding id must be 0.
        max_length: Text positions L, special tokens included; a longer sentence keeps its
            closing token (17 for RefCOCO and RefCOCO+, 22 for RefCOCOg).
        width: C.
        num_heads: Attention heads.
        num_layers: Transformer layers.
        positions: Rows of the position table.
        vocabulary: Rows of the embedding. Default: the tokenizer's.
        adapter_layers: Layers with an adapter, from 0.
        adapter_channels: Width of the adapters.
        adapter_scale: Factor of the adapters.
        frozen: Only the adapters learn. False trains a tower without pretrained weights.

    Raises:
        ValueError: If ``max_length`` exceeds ``positions``, a layer does not exist, or the
            tokenizer pads with another id than 0.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        tokenizer: str = 'clip',
        max_length: int = 17,
        width: int = 512,
        num_heads: int = 8,
        num_layers: int = 12,
        positions: int = 77,
        vocabulary: int | None = None,
        adapter_layers: Sequence[int] = (1, 3, 5, 7, 9, 11),
        adapter_channels: int = 64,
        adapter_scale: float = 0.2,
        frozen: bool = True,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if max_length > positions:
            raise ValueError(f'max_length={max_length} exceeds the {positions} positions')
        beyond = [i for i in adapter_layers if not 0 <= i < num_layers]
        if beyond:
            raise ValueError(f'adapter_layers names layers {beyond} of 0..{num_layers - 1}')
        self.name = name
        self.max_length = max_length
        self.out_channels = width
        self.adapter_scale = adapter_scale
        self.cleans = tokenizer == 'clip'
        self.tokenizer = load_clip_tokenizer() if self.cleans else load_tokenizer(tokenizer)
        if self.tokenizer.pad_token_id not in (None, 0):
            raise ValueError(
                f'DETRISTextEncoder takes slots of id 0 for padding, but the tokenizer '
                f'{tokenizer!r} pads with {self.tokenizer.pad_token_id}'
            )
        self._told_truncation = False
        self._seen = SeenSentences()
        self.token_embedding = nn.Embedding(vocabulary or len(self.tokenizer), width)
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.transformer = Transformer(
            [
                ResidualBlock(
                    width,
                    num_heads,
                    TextAdapter(width, adapter_channels) if i in adapter_layers else None,
                )
                for i in range(num_layers)
            ]
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, width))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)
        if frozen:
            for key, parameter in self.named_parameters():
                parameter.requires_grad_('.adapter.' in key)

    def init_weights(self) -> None:
        """Reads CLIP's weights of ``name``; adapters keep what was drawn."""
        if self.name is not None and not self.is_init:
            from transformers import CLIPTextModelWithProjection

            name = self.name
            clip: Any = fetch(name, lambda: CLIPTextModelWithProjection.from_pretrained(name))
            load_clip_text(self, clip.state_dict(), name)
        self._is_init = True

    def tokenize(self, expressions: Sequence[str]) -> TextTokens:
        """Token ids of E sentences, (E, L) each, padded with 0, on the CPU."""
        return self._seen.tokens(expressions, self._tokenize)

    def _tokenize(self, expressions: list[str]) -> TextTokens:
        texts = [clean_text(text) if self.cleans else text for text in expressions]
        rows = self.tokenizer(texts, add_special_tokens=True)['input_ids']
        ids = torch.zeros(len(rows), self.max_length, dtype=torch.long)
        for i, row in enumerate(rows):
            kept = row[: self.max_length]
            if len(row) > self.max_length:
                self._tell_truncation(expressions[i], len(row))
                kept[-1] = row[-1]
            ids[i, : len(kept)] = torch.tensor(kept)
        return TextTokens(ids, ids != 0)

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
        """Encodes E sentences: all slots (E, L, C), and the projected closing token (E, C)."""
        tokens = tokens.to(self.positional_embedding.device)
        slots = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        causal = slots[None] > slots[:, None]  # no padding mask: padding comes after the words
        x = self.token_embedding(tokens.ids) + self.positional_embedding[: len(slots)]
        for block in self.transformer.resblocks:
            x = block(x, causal, self.adapter_scale)
        words = self.ln_final(x)
        last = (tokens.mask * slots).amax(1)
        closing = words[torch.arange(len(words), device=words.device), last]
        return TextFeatures(words, tokens.mask, closing @ self.text_projection)


def clip_text_to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ``transformers``' ``CLIPTextModelWithProjection`` under CLIP's own names."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in _NAMES:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    ours = {k: v for k, v in renamed.items() if not re.search(r'\.[qkv]_proj\.|position_ids', k)}
    for key in renamed:
        if '.attn.q_proj.' in key:
            kind = key.rpartition('.')[2]
            parts = [renamed[key.replace('q_proj', f'{p}_proj')] for p in 'qkv']
            ours[key.replace(f'q_proj.{kind}', f'in_proj_{kind}')] = torch.cat(parts)
    ours['text_projection'] = ours.pop('text_projection.weight').T
    return ours


def load_clip_text(tower: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load CLIP's text weights into ``tower``.

    Raises:
        ValueError: If they are of another size; names ``source``.
    """
    ours = clip_text_to_ours(state)
    own = {k: v.shape for k, v in tower.state_dict().items() if '.adapter.' not in k}
    found = {k: v.shape for k, v in ours.items()}
    if own != found:
        wrong = sorted(k for k in own.keys() | found.keys() if own.get(k) != found.get(k))
        raise ValueError(
            f'{source} is not the CLIP text tower of this config: {wrong[:3]} '
            f'({len(wrong)} weights) are missing or of another shape'
        )
    tower.load_state_dict(ours, strict=False)
