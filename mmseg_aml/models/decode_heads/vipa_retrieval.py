"""VIPA, step 1: which visual tokens matter to a linguistic cue?

Paper: arXiv 2602.14788 (no code was released). It gives the cosine relevance, the number of
tokens and that sampling is differentiable; *how* it is made differentiable, and all
temperatures, are our choices.

E = expressions, L = cues (the sentence and its words), N = visual tokens, C = channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLERS = ('gumbel_topk_st', 'topk_st', 'soft')


class Retrieval(NamedTuple):
    """What was retrieved.

    relevance: (E, L, N) cosine in [-1, 1], float32.
    mask: (E, L, N) bool, True = retrieved: N_p tokens of every real cue, none of padding.
    attention: (E, L, N) float32, how much of every token goes into the cue's aggregate;
    0 outside the mask, unless the sampler is ``'soft'``.
    """

    relevance: Tensor
    mask: Tensor
    attention: Tensor


def cosine_relevance(cues: Tensor, visual: Tensor) -> Tensor:
    """Cosine (E, L, N) of cues (E, L, C) and visual tokens (E, N, C), in float32."""
    return F.normalize(cues.float(), dim=-1) @ F.normalize(visual.float(), dim=-1).transpose(1, 2)


def retrieval_count(ratio: float, total: int) -> int:
    """N_p = ceil(ratio * N), at least 1; 0.1 * 30 is 3 in spite of rounding."""
    return min(total, max(1, math.ceil(ratio * total - 1e-9)))


def top_mask(scores: Tensor, count: int) -> Tensor:
    """(E, L, N) bool with exactly ``count`` True in every row, at its highest scores."""
    chosen = scores.topk(count, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, chosen, True)


def gumbel_like(scores: Tensor) -> Tensor:
    """Gumbel(0, 1) noise, always finite."""
    tiny = torch.finfo(scores.dtype).tiny
    return -torch.empty_like(scores).exponential_().clamp_min(tiny).log()


def retrieve(
    cues: Tensor,
    cue_mask: Tensor,
    visual: Tensor,
    *,
    ratio: float,
    sampler: str = 'gumbel_topk_st',
    sample_temperature: float = 0.1,
    attention_temperature: float = 0.07,
    training: bool = False,
) -> Retrieval:
    """Retrieves the N_p most relevant visual tokens of every cue; float32 throughout.

    In training ``'gumbel_topk_st'`` disturbs relevance / ``sample_temperature`` by Gumbel
    noise (top-k of it draws without replacement), ``'topk_st'`` does not; both let gradients
    pass to relevance as if the selection were N_p times its soft-max. ``'soft'`` aggregates
    over all tokens; its selection is only a mask. In evaluation all select the top N_p.

    Args:
        cues: (E, L, C). cue_mask: (E, L) bool, True = real cue. visual: (E, N, C).
        ratio: Share of the N tokens.
        sampler: One of :data:`SAMPLERS`.
        attention_temperature: Of the soft-max over the retrieved tokens.
        training: Whether noise is drawn.
    """
    with torch.autocast(cues.device.type, enabled=False):
        relevance = cosine_relevance(cues, visual)
        scores = relevance / sample_temperature
        if training and sampler == 'gumbel_topk_st':
            scores = scores + gumbel_like(scores)
        count = retrieval_count(ratio, relevance.shape[-1])
        mask = top_mask(scores.detach(), count)
        logits = relevance / attention_temperature
        if sampler == 'soft':
            attention = logits.softmax(-1)
        else:
            soft = count * scores.softmax(-1)
            chosen = mask + (soft - soft.detach())  # value of the mask, gradient of the soft-max
            lowest = torch.finfo(logits.dtype).min
            attention = logits.masked_fill(~mask, lowest).softmax(-1) * chosen
        return Retrieval(relevance, mask & cue_mask[..., None], attention)


def relevance_loss(
    relevance: Tensor,
    cue_mask: Tensor,
    target: Tensor,
    scale: Tensor,
    size: tuple[int, int],
    ignore_index: int = 255,
) -> Tensor:
    """Pixel contrast: every cue's relevance map should be the target mask.

    Binary cross entropy of sigmoid(scale * relevance), up-sampled bilinearly to ``size``,
    where a cell's target is the share of its pixels that belong to the target. Mean over
    cells, then over an expression's real cues, then over expressions.

    Args:
        relevance: (E, L, h, w). cue_mask: (E, L) bool.
        target: (E, H, W) labels {0, 1}; ``ignore_index`` does not count.
        scale: Inverse temperature, a scalar.
        size: (h', w') at which the maps are compared.
    """
    with torch.autocast(relevance.device.type, enabled=False):
        logits = F.interpolate(relevance.float() * scale.float(), size, mode='bilinear')
        counts = F.adaptive_avg_pool2d((target != ignore_index).float()[:, None], size)
        truth = F.adaptive_avg_pool2d((target == 1).float()[:, None], size)
        truth = (truth / counts.clamp_min(1e-6)).expand_as(logits)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction='none')
        per_cue = (loss * counts).sum((2, 3)) / counts.sum((2, 3)).clamp_min(1e-6)
        return ((per_cue * cue_mask).sum(1) / cue_mask.sum(1).clamp_min(1)).mean()
