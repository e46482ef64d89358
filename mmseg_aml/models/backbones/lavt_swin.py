"""LAVT's image tower: a Swin Transformer that reads the expression after every stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmseg_aml.models.backbones.swin import SwinTransformer
from mmseg_aml.models.fusions.pwam import PWAM, LanguageGate
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures


@MODELS.register_module()
class LAVTSwinTransformer(SwinTransformer):
    """Swin Transformer with PWAM and language gates (https://arxiv.org/abs/2112.02244).

    After the blocks of stage s: ``r = PWAM_s(x, text)``; ``norm_s(r)``, the fusion alone, is
    handed out; ``gate_s(x, r)`` goes on to patch merging. The published network also holds a
    gate after the last stage whose result it throws away; here there is none, so that every
    parameter has a gradient.

    Text is mixed in from the first stage on, so the host has no text-free levels to offer:
    the levels handed out are also ``TextImageFeatures.visual``, and what PMME compares with
    the text is the fused language-aware map of each stage.

    Args:
        text_channels: C of the text features.
        fusion_heads: Attention heads of PWAM per stage.
        fusion_drop: Dropout inside PWAM.
        kwargs: As :class:`~mmseg_aml.models.backbones.swin.SwinTransformer`.

    Raises:
        ValueError: If ``fusion_heads`` does not name one number per stage, or
            ``out_indices`` leaves a stage out.
    """

    reads_text = True

    def __init__(
        self,
        *,
        text_channels: int = 768,
        fusion_heads: Sequence[int] = (1, 1, 1, 1),
        fusion_drop: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        stages = len(self.stages)
        if len(fusion_heads) != stages or len(self.out_indices) != stages:
            raise ValueError(
                f'{stages} stages need as many fusion_heads and out_indices, got '
                f'fusion_heads={tuple(fusion_heads)}, out_indices={tuple(self.out_indices)}'
            )
        self.fusions = nn.ModuleList(
            PWAM(channels, text_channels, heads=heads, dropout=fusion_drop)
            for channels, heads in zip(self.num_features, fusion_heads)
        )
        self.gates = nn.ModuleList(LanguageGate(channels) for channels in self.num_features[:-1])

    def draw_weights(self) -> None:
        """As Swin; the projections of PWAM keep PyTorch's default, as published."""
        super().draw_weights()
        for module in self.modules():
            if isinstance(module, PWAM):
                module.reset_parameters()

    def forward(self, x: Tensor, text: TextFeatures) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Encode images in the light of their expressions.

        Args:
            x: (E, 3, H, W) of any size, one image per expression.
            text: Features of the E expressions.

        Returns:
            Per stage (E, C_i, H_i, W_i): the normalised fusion results.
        """
        return self.read(self.stem(x), text)

    def stem(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> tokens (B, h, w, C_0) of the first stage, before any text."""
        tokens, size = self.first_stage(images)
        return (tokens.unflatten(1, size),)

    def read(self, stem: Sequence[Tensor], text: TextFeatures) -> tuple[Tensor, ...]:
        """What :meth:`stem` gives, one row per expression -> levels (E, C_i, H_i, W_i)."""

        def fuse(stage: int, tokens: Tensor, _: tuple[int, int]) -> tuple[Tensor, Tensor]:
            if self.stages[stage].with_cp and torch.is_grad_enabled():
                fused = checkpoint(self.fusions[stage], tokens, text, use_reentrant=False)
            else:
                fused = self.fusions[stage](tokens, text)
            if stage < len(self.gates):
                tokens = self.gates[stage](tokens, fused)
            return tokens, fused

        (tokens,) = stem
        return self.finish_stages(tokens.flatten(1, 2), tuple(tokens.shape[1:3]), fuse)  # type: ignore
