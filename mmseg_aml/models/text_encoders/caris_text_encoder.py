"""BERT that reads the picture first: CARIS's conditional language prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures, TextTokens

from .hf_text_encoder import HFTextEncoder


class ConditionalPrompts(nn.Module):
    """Prompts of the text tower, made from the picture.

    Args:
        in_channels: Channels of the deepest level.
        channels: Width of the text tower.
        grids: The picture is pooled to s x s for each s: sum of s² prompts in all.
    """

    def __init__(self, in_channels: int, channels: int, grids: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.grids = tuple(grids)
        self.in_linears = nn.ModuleList(nn.Linear(in_channels, channels) for _ in self.grids)
        self.out_linears = nn.ModuleList(nn.Linear(channels, channels) for _ in self.grids)
        self.lang_prompts = nn.Embedding(sum(s * s for s in self.grids), channels)
        self.lang_prompts_norm = nn.LayerNorm(channels)
        linear: Any
        for linear in (*self.in_linears, *self.out_linears):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, deepest: Tensor) -> Tensor:
        """(E, in_channels, h, w) -> (E, prompts, channels)."""
        pooled = (F.adaptive_avg_pool2d(deepest, s).flatten(2).transpose(1, 2) for s in self.grids)
        prompts = [
            outer(inner(cells).relu())
            for cells, inner, outer in zip(pooled, self.in_linears, self.out_linears)
        ]
        return self.lang_prompts_norm(torch.cat(prompts, 1) + self.lang_prompts.weight)


@MODELS.register_module()
class CARISTextEncoder(HFTextEncoder):
    """BERT with prompts made from the deepest level of the picture.

    The prompts take part in every layer as further tokens after the L text slots; only
    the text slots are handed on. So text features depend on the picture, and the loss
    reaches the backbone through them too.

    Args:
        visual_channels: Channels of the deepest level.
        prompt_grids: The picture is pooled to s x s for each s.
        kwargs: Those of :class:`HFTextEncoder`; the model must be a BERT.
    """

    reads_image = True

    def __init__(
        self, *args: Any, visual_channels: int, prompt_grids: Sequence[int] = (1, 2), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.model.config.model_type != 'bert':
            raise ValueError(
                f'CARISTextEncoder needs a BERT, got {self.model.config.model_type!r}: '
                'set model.text_encoder.name or .config to a BERT'
            )
        self.prompts = ConditionalPrompts(visual_channels, self.out_channels, prompt_grids)

    def forward(  # type: ignore[override]
        self, tokens: TextTokens, visual: Sequence[Tensor]
    ) -> TextFeatures:
        """Encode E sentences with their pictures.

        Args:
            tokens: ids and mask (E, L).
            visual: Levels (E, C_i, h_i, w_i), deepest last.

        Returns:
            tokens (E, L, C); sentence is the first slot ([CLS]).
        """
        prompts = self.prompts(visual[-1])
        tokens = tokens.to(prompts.device)
        embedded = self.model.embeddings(input_ids=tokens.ids)
        mask = F.pad(tokens.mask, (0, prompts.shape[1]), value=True)
        bias = (~mask)[:, None, None].to(embedded.dtype) * -10000.0  # added to the scores
        encoded = self.model.encoder(
            torch.cat((embedded, prompts.to(embedded.dtype)), 1), attention_mask=bias
        )
        hidden = encoded.last_hidden_state[:, : tokens.ids.shape[1]]
        return TextFeatures(hidden, tokens.mask, hidden[:, 0])
