"""One layer of CARIS's vision-language decoder (https://doi.org/10.1145/3581783.3612117)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import FewFromMany, ManyFromFew, SelfAttention
from .deformable_attention import DeformableAttention, Sizes


class FeedForward(nn.Module):
    """Linear, ReLU, Linear."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels * expansion)
        self.fc2 = nn.Linear(channels * expansion, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(self.fc1(x).relu_())


class CARISLayer(nn.Module):
    """Text reads the picture, the picture reads the text, pixels read pixels.

    All residuals are post-norm. Names are the published ones; the norms are numbered by
    the order in which the authors wrote them, not in which they run.

    Args:
        channels: C.
        heads: Heads of all attentions.
        levels: Levels of the picture's tokens.
        points: Sampling points per head and level.
        expansion: Inner width of attentions and feed-forward networks over C.
    """

    def __init__(
        self, channels: int, *, heads: int, levels: int, points: int, expansion: int
    ) -> None:
        super().__init__()
        self.gamma_v2l = nn.Parameter(torch.ones(1, 1, channels))
        self.gamma_l2v = nn.Parameter(torch.ones(1, 1, channels))
        self.vis_self_attn = DeformableAttention(channels, heads, levels, points)
        self.v2l_cross_attn = FewFromMany(channels, heads, expansion)
        self.l2v_cross_attn = ManyFromFew(channels, heads, expansion)
        self.lang_self_attn = SelfAttention(channels, heads, expansion)
        self.vis_mlp = FeedForward(channels, expansion)
        self.lang_mlp = FeedForward(channels, expansion)
        self.v_norm1 = nn.LayerNorm(channels)
        self.v_norm2 = nn.LayerNorm(channels)
        self.v_norm3 = nn.LayerNorm(channels)
        self.l_norm1 = nn.LayerNorm(channels)
        self.l_norm2 = nn.LayerNorm(channels)
        self.l_norm3 = nn.LayerNorm(channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Linear: truncated normal 0.02, zero bias; then the deformable attention's own."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.vis_self_attn.reset_parameters()

    def forward(
        self,
        vis: Tensor,
        text: Tensor,
        *,
        positions: Tensor,
        references: Tensor,
        text_mask: Tensor,
        sizes: Sizes,
        wanted: slice | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update both sides.

        Args:
            vis: (E, T, C), the picture's tokens, level after level.
            text: (E, n, C), words and prompts.
            positions: (1, T, C).
            references: (T, 2), where the tokens lie in their level.
            text_mask: (E, n) bool, True = may be attended to.
            sizes: (height, width) per level.
            wanted: The tokens of the picture that the caller will read; None is all.

        Returns:
            vis (E, T or those wanted, C) and text (E, n, C).
        """
        read = self.v2l_cross_attn(text, vis + positions, vis)
        text = self.l_norm1(text + self.gamma_v2l * read)
        text = self.l_norm2(text + self.lang_self_attn(text, text_mask))
        text = self.l_norm3(text + self.lang_mlp(text))
        read = self.l2v_cross_attn(vis + positions, text, text_mask)
        vis = self.v_norm2(vis + self.gamma_l2v * read)
        value = vis
        if wanted is not None:
            vis, positions, references = vis[:, wanted], positions[:, wanted], references[wanted]
        read = self.vis_self_attn(vis + positions, references, value, sizes)
        vis = self.v_norm1(vis + read)
        return self.v_norm3(vis + self.vis_mlp(vis)), text
