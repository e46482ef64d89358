"""The backward pass of one view at once, its gradients handed on to the step's own.

Two views in one sum of losses keep both graphs in memory. Here the first view's gradients are
computed as soon as its losses are known, which frees its graph, and are added in the backward pass
of the sum. So the losses, the gradients and what waits for them (DDP's reduction, accumulation,
clipping, checks) are the same, with one graph and one set of gradients in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..structures import TextFeatures, TextImageFeatures


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> Any:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None
        torch._foreach_mul_(gradients, factor)
        return (None, None, *gradients)


def can_fold(device: torch.device) -> bool:
    """Whether :func:`fold` applies.

    Not under float16 autocast: gradients need the loss scale, which is known to the optimizer
    wrapper alone.
    """
    kind = device.type
    half = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return torch.is_grad_enabled() and not half


def fold(
    losses: dict[str, Tensor], inputs: Iterable[tuple[Tensor, Tensor]], *, keep_graph: bool = False
) -> dict[str, Tensor]:
    """Losses of the same values whose backward pass adds gradients that are known already.

    The graph of ``losses`` is used up. As MMEngine does, losses are summed, each with the same
    weight, and statistics (no "loss" in the key) are left alone.

    Args:
        losses: Tensors, or lists of them, by name.
        inputs: Pairs: a tensor in the graph of ``losses``, and the one that gets its gradient.
        keep_graph: Others need a part of it.
    """
    summed = {key: _mean(value) for key, value in losses.items() if 'loss' in key}
    total = torch.stack(list(summed.values())).sum()
    if not total.requires_grad:
        return losses
    sources, targets = zip(*inputs)
    with torch.autocast(total.device.type, enabled=False):  # as in the step's own backward pass
        found = torch.autograd.grad(total, sources, allow_unused=True, retain_graph=keep_graph)
    pairs = [(gradient, target) for gradient, target in zip(found, targets) if gradient is not None]
    gradients = own_memory([gradient for gradient, _ in pairs])
    folded = {key: value.detach() for key, value in {**losses, **summed}.items()}
    first = next(iter(summed))
    folded[first] = _Fold.apply(folded[first], gradients, *(target for _, target in pairs))  # type: ignore
    return folded


def _mean(value: Tensor | list[Tensor]) -> Tensor:
    """As MMEngine's ``parse_losses``."""
    if isinstance(value, Tensor):
        return value.mean()
    return torch.stack([part.mean() for part in value]).sum()


def own_memory(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Gradients that may be changed in place: no two share memory, none overlaps itself."""
    seen: set[int] = set()
    own = []
    for gradient in gradients:
        storage = gradient.untyped_storage()
        whole = storage.nbytes() == gradient.numel() * gradient.element_size()
        own.append(gradient if whole and storage._cdata not in seen else gradient.clone())
        seen.add(storage._cdata)
    return own


def cut(features: TextImageFeatures) -> tuple[TextImageFeatures, list[tuple[Tensor, Tensor]]]:
    """The same features as leaves of a new graph, and pairs (leaf, original) for :func:`fold`."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    known: dict[int, Tensor] = {}

    def leaf(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        if id(tensor) not in known:
            source = tensor.detach().requires_grad_()
            found[id(tensor)] = source, tensor
            known[id(tensor)] = source.view_as(source)  # hooks of modules take no leaf here
        return known[id(tensor)]

    visual, text, fused = features
    cut_text = TextFeatures(leaf(text.tokens), text.mask, leaf(text.sentence))
    levels = (tuple(leaf(level) for level in part) for part in (visual, fused))
    cut_visual, cut_fused = levels
    return TextImageFeatures(cut_visual, cut_text, cut_fused), list(found.values())
