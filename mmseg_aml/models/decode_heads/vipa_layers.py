"""VIPA: the attention block, and the Visual Expression Generator made of it."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .vipa_retrieval import SAMPLERS, Retrieval, retrieve

STEPS = ('both', 'retrieval', 'refinement')


def project(in_channels: int, channels: int) -> nn.Sequential:
    """A linear map and a norm, named so that optimizers can tell the norm."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        linear=nn.Linear(in_channels, channels), norm=nn.LayerNorm(channels)
    )
    return nn.Sequential(layers)


class AttentionBlock(nn.Module):
    """Pre-norm attention to a memory (or to itself) and a feed-forward network.

    Args:
        channels: C of queries and memory.
        heads: Attention heads, a divisor of C.
        expansion: Inner width of the feed-forward network over C.
    """

    def __init__(self, channels: int, heads: int, expansion: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'{heads} heads do not divide {channels} channels')
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(
            nn.Linear(channels, expansion * channels),
            nn.GELU(),
            nn.Linear(expansion * channels, channels),
        )

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Queries (E, M, C).
            mask: Bool, broadcast to (E, M, K); True = may be attended to, in every row
                at least one.
            memory: (E, K, C), normalised; the normalised queries by default.

        Returns:
            (E, M, C).
        """
        y = self.norm(x)
        key, value = self.key_value(y if memory is None else memory).chunk(2, -1)
        split = [
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.query(y), key, value)
        ]
        read = F.scaled_dot_product_attention(*split, attn_mask=mask[:, None])
        x = x + self.out(read.transpose(1, 2).flatten(2))
        return x + self.ffn(self.ffn_norm(x))


class VisualExpressionGenerator(nn.Module):
    """Rewrites linguistic cues in visual tokens: the "visual expression".

    Step 1 retrieves the most relevant visual tokens of every cue and aggregates them to one
    token (:mod:`.vipa_retrieval`). Step 2 lets this token read the retrieved tokens (masked
    cross-attention) and then all tokens of the expression each other.

    Args:
        channels: C.
        ratio: Share r of the visual tokens that a cue retrieves.
        sampler: How retrieval is made differentiable, one of ``gumbel_topk_st``,
            ``topk_st``, ``soft``.
        sample_temperature: Of the sampler.
        attention_temperature: Of the aggregation.
        steps: ``'both'``, ``'retrieval'`` (step 1 only), or ``'refinement'`` (step 2 only:
            the cues themselves read all visual tokens).
        heads: Attention heads.
        expansion: Inner width of feed-forward networks over C.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: float = 0.3,
        sampler: str = 'gumbel_topk_st',
        sample_temperature: float = 0.1,
        attention_temperature: float = 0.07,
        steps: str = 'both',
        heads: int = 8,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        if sampler not in SAMPLERS:
            raise ValueError(f'sampler must be one of {SAMPLERS}, got {sampler!r}')
        if steps not in STEPS:
            raise ValueError(f'steps must be one of {STEPS}, got {steps!r}')
        if not 0 < ratio <= 1:
            raise ValueError(f'ratio must lie in (0, 1], got {ratio}')
        self.ratio = ratio
        self.sampler = sampler
        self.sample_temperature = sample_temperature
        self.attention_temperature = attention_temperature
        self.steps = steps
        if steps != 'refinement':
            self.aggregate = project(channels, channels)
        if steps != 'retrieval':
            self.read_visual = AttentionBlock(channels, heads, expansion)
            self.share = AttentionBlock(channels, heads, expansion)
            self.norm = nn.LayerNorm(channels)

    def retrieve(self, cues: Tensor, cue_mask: Tensor, visual: Tensor) -> Retrieval:
        """Step 1's choice; see :func:`.vipa_retrieval.retrieve`."""
        return retrieve(
            cues,
            cue_mask,
            visual,
            ratio=self.ratio,
            sampler=self.sampler,
            sample_temperature=self.sample_temperature,
            attention_temperature=self.attention_temperature,
            training=self.training,
        )

    def forward(
        self, cues: Tensor, cue_mask: Tensor, visual: Tensor
    ) -> tuple[Tensor, Retrieval | None]:
        """Generate the expression.

        Args:
            cues: (E, L, C) normalised. cue_mask: (E, L) bool, True = real cue.
            visual: (E, N, C) normalised.

        Returns:
            Tokens (E, L, C), of padding cues without meaning; what was retrieved, None
            without step 1.
        """
        tokens, retrieval = cues, None
        readable = torch.ones_like(cue_mask)[..., None]
        if self.steps != 'refinement':
            retrieval = self.retrieve(cues, cue_mask, visual)
            tokens = self.aggregate(retrieval.attention.to(visual.dtype) @ visual)
            # Padding cues must not leave a row of the soft-max empty; nothing reads them later.
            readable = retrieval.mask | ~cue_mask[..., None]
        if self.steps != 'retrieval':
            tokens = self.read_visual(tokens, readable, visual)
            tokens = self.norm(self.share(tokens, cue_mask[:, None]))
        return tokens, retrieval
