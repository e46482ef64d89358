"""FLOPs and peak memory of a training step with fake tensors: exact, and free at any size.

For ``benchmarks/aml_step.py``. FLOPs are those of products and convolutions, forward and
backward, as ``torch.utils.flop_counter`` counts them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from hosts import samples_for
from peak_memory import PeakMemory
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmseg_aml.models.fusions.cross_attention import _axis_code
from mmseg_aml.registry import MODELS
from mmseg_aml.strategies.base import Masked, View
from mmseg_aml.strategies.masking.blocks import apply_blocks
from mmseg_aml.strategies.masking.masker import Record
from mmseg_aml.structures import TextTokens


class Checkerboard(nn.Module):
    """A filter whose blocks depend on no data: fake tensors have none."""

    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        rows, columns = (-(-side // 32) for side in view.size)
        board = (torch.arange(rows)[:, None] + torch.arange(columns)) % 2 == 0
        board = board.expand(len(scores), -1, -1).clone()
        return Masked(board, board, 32)


class MeanLogit(nn.Module):
    """A loss that looks at no label; losses hold no product or convolution."""

    def __init__(self, loss_name: str) -> None:
        super().__init__()
        self.loss_name = loss_name

    def forward(self, logits: Tensor, *_: Any, **__: Any) -> Tensor:
        return logits.float().mean()


def every_one_masked(view: View, record: Record) -> tuple[Tensor, list[int]]:
    """As ``masked_images`` where all are masked; which are is a value, unknown here."""
    images = view.inputs[[sample.metainfo['image_index'] for sample in view.samples]]
    return apply_blocks(images, record.masked, record.block_size), list(range(len(images)))


def faked(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy whose weights have shapes alone."""
    shapes = {id(t): mode.from_tensor(t.detach()) for t in tensors_of(model)}
    memo: dict[int, Any] = {
        id(p): nn.Parameter(shapes[id(p)], requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    memo.update({id(b): shapes[id(b)] for b in model.buffers()})
    return copy.deepcopy(model, memo)


def tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def one_backward(model: Any, images: Tensor, samples: list[Any]) -> None:
    model.parse_losses(model.loss(images, samples))[0].backward()


def count(
    model: Any,
    strategy: dict[str, Any] | None,
    batch: int,
    size: int,
    arithmetic: Callable[[], Any],
    expressions: int = 1,
    step: Callable[[Any, Tensor, list[Any]], None] = one_backward,
) -> tuple[float, float]:
    """FLOPs (1e9) and peak MiB of one step of ``model`` with a ``loss_wrapper`` config.

    ``arithmetic`` makes a context that the step runs in. With several ``expressions`` per
    image, something is masked for each of them. ``step`` runs forward and backward.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake: Any = faked(model, mode)
    for head in filter(None, (fake.decode_head, fake.auxiliary_head)):
        losses = head.loss_decode
        several: Any = losses if isinstance(losses, nn.ModuleList) else [losses]
        head.loss_decode = nn.ModuleList(MeanLogit(loss.loss_name) for loss in several)
    fake.loss_wrapper = None if strategy is None else MODELS.build(strategy)
    if fake.loss_wrapper is not None:
        fake.loss_wrapper.masker.filter = Checkerboard()
        fake.loss_wrapper.text_ratio = 0.0  # words are chosen by value, and cost nothing
    written_out = sdpa_kernel(SDPBackend.MATH)  # the counter does not know the fused CPU kernel
    flops = FlopCounterMode(display=False)
    several = patch('mmseg_aml.strategies.two_views.masked_images', every_one_masked)
    # Tokenizers make values, which fake tensors have not.
    real = model.tokenize(samples_for(batch, expressions, size))
    tokens = TextTokens(*(None if part is None else mode.from_tensor(part) for part in real))
    fake.tokenize = lambda samples: tokens
    with several, arithmetic(), written_out, mode:
        images, samples = torch.randn(batch, 3, size, size), samples_for(batch, expressions, size)
        masker = None if fake.loss_wrapper is None else fake.loss_wrapper.masker
        if masker is not None and masker.estimator is not None:
            # Its random matrices are made once, in the first step.
            masker.estimator(View(fake, images, samples, learns=False))
        with PeakMemory([*tensors_of(fake), images]) as memory, flops:
            step(fake, images, samples)
    _axis_code.cache_clear()  # of fake tensors
    return flops.get_total_flops() / 1e9, memory.peak / 2**20
