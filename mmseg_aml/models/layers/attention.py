"""Multi-head attention between a few tokens (text) and many (pixels).

CARIS widens its attentions to four times the model width and then attends between
n = 25 text tokens and T = 4116 pixels. Projecting all pixels to the wide space is most
of the work, and matrix products are associative: with one head written as

    softmax((X Wq + bq) (Y Wk + bk)^T) (Y Wv + bv) Wo

the projection of the many can be moved to the few. The results and gradients are the
same to rounding, for T x C x (heads x n) products instead of T x C x width.

B = batch, C = model width, D = inner width, H = heads, d = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with an inner width of ``expansion`` x C.

    The published network clamps scores to ±50000, which fp32 scores never reach: left out.

    Args:
        channels: C.
        heads: H, divides ``channels * expansion``.
        expansion: D / C.
    """

    def __init__(self, channels: int, heads: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        if inner % heads:
            raise ValueError(f'{heads} heads do not divide the inner width {inner}')
        self.heads = heads
        self.scale = (inner // heads) ** -0.5
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def split(self, x: Tensor) -> Tensor:
        """(B, n, D) -> (B, H, n, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def head_rows(self, linear: nn.Linear) -> Tensor:
        """Weight (D, C) of a projection per head: (H, d, C)."""
        return linear.weight.unflatten(0, (self.heads, -1))


class SelfAttention(Attention):
    """Attention of tokens to themselves."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, n, C), mask (B, n) bool with True = may be attended to -> (B, n, C)."""
        q, k, v = (self.split(proj(x)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.out_proj(out.transpose(1, 2).flatten(2))


class FewFromMany(Attention):
    """A few queries read many keys; keys and values are never projected."""

    def forward(
        self, few: Tensor, many: Tensor, values: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            few: (B, n, C).
            many: (B, T, C), what the keys are made from.
            values: (B, T, C).
            bias: (B, T), added to the scores of every key.

        Returns:
            (B, n, C).
        """
        q = self.split(self.q_proj(few))  # (B, H, n, d)
        # q . (y Wk + bk) = (q Wk^T) . y + q . bk; the last term is the same for all keys.
        # Softmax would cancel it: it is kept as a mask, so that bk stays in the graph.
        queries = torch.einsum('bhnd,hdc->bhnc', q, self.head_rows(self.k_proj))
        shift = (q * self.k_proj.bias.view(self.heads, 1, -1)).sum(-1, keepdim=True) * self.scale
        scores = queries.flatten(1, 2) @ many.transpose(1, 2) * self.scale + shift.flatten(1, 2)
        if bias is not None:
            scores = scores + bias[:, None]
        read = scores.softmax(-1).to(values.dtype) @ values  # (B, H n, C)
        read = read.unflatten(1, (self.heads, -1))
        out = torch.einsum('bhnc,hdc->bnhd', read, self.head_rows(self.v_proj)).flatten(2)
        return self.out_proj(out + self.v_proj.bias)


class ManyFromFew(Attention):
    """Many queries read a few keys; queries and results are never projected."""

    def forward(self, many: Tensor, few: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            many: (B, T, C), what the queries are made from.
            few: (B, n, C).
            mask: (B, n) bool, True = may be attended to.

        Returns:
            (B, T, C).
        """
        k = self.split(self.k_proj(few))  # (B, H, n, d)
        v = self.split(self.v_proj(few))
        keys = torch.einsum('bhnd,hdc->bhnc', k, self.head_rows(self.q_proj)) * self.scale
        bias = torch.einsum('bhnd,hd->bhn', k, self.q_proj.bias.view(self.heads, -1)) * self.scale
        bias = bias.masked_fill(~mask[:, None], float('-inf')).flatten(1)[..., None]
        out_columns = self.out_proj.weight.unflatten(1, (self.heads, -1))  # (C, H, d)
        values = torch.einsum('bhnd,chd->bhnc', v, out_columns).flatten(1, 2)
        # Pixels last: the softmax over the few then runs along them, vectorised.
        scores = torch.baddbmm(bias, keys.flatten(1, 2), many.transpose(1, 2))  # (B, H n, T)
        weights = scores.unflatten(1, (self.heads, -1)).softmax(2).flatten(1, 2)
        return weights.to(values.dtype).transpose(1, 2) @ values + self.out_proj.bias
