"""AML as published in code: an untrained Linear, and an index fault in the filter.

The released AMLRIS code differs from the paper in estimator, filter and loss; see docs/aml.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...engine.checkpoints import CheckpointError, read_checkpoint
from ...registry import MODELS
from ...transfer import to_device
from ..base import Alignment, Masked, View
from ..iteration import run_seed
from ..masking.blocks import Size, pool_blocks, upsample_scores
from ..masking.masker import Masker
from ..two_views import TwoViews
from .pmme import patch_max


def release_blocks(
    scores: Tensor,
    image_size: Size,
    threshold: float,
    permute: Callable[[int], Tensor],
    block_size: int = 32,
) -> Tensor:
    """The published release's selection, with its index fault, bit for bit.

    The up-sampled map is cut to (block, pixel in block) pairs; of the K weak pairs
    max(1, K // 4) are drawn, and *both* columns are used as block numbers, clamped to the
    last block. So next to the block of a weak pixel, the block whose number is the
    pixel's offset goes too.

    Args:
        scores: (E, h, w). image_size: Square, divisible by ``block_size``.
        permute: K -> a permutation of range(K); called once per sample with weak pixels.

    Returns:
        (E, H_b, W_b) bool, True = masked.
    """
    rows, columns = (side // block_size for side in image_size)
    if image_size != (rows * block_size, columns * block_size) or rows != columns:
        raise ValueError(
            f'the release masks square images divisible by {block_size}, got {image_size}: '
            "use the filter 'mmseg_aml.AFM'"
        )
    pixels = upsample_scores(scores, image_size)
    patches = pixels.unflatten(2, (columns, block_size)).unflatten(1, (rows, block_size))
    patches = patches.permute(0, 1, 3, 2, 4).reshape(len(scores), rows * columns, -1)
    masked = torch.zeros(len(scores), rows * columns, dtype=torch.bool, device=scores.device)
    for sample, weak in zip(masked, patches < threshold):
        pairs = weak.nonzero()
        if len(pairs):
            drawn = to_device(permute(len(pairs)), pairs.device)[: max(1, len(pairs) // 4)]
            sample[pairs[drawn].clamp(max=rows * columns - 1).flatten()] = True
    return masked.unflatten(1, (rows, columns))


@MODELS.register_module()
class ReleaseAFM(BaseModule):
    """The filter of the published release: see :func:`release_blocks`.

    Padding and targets are unknown to it.
    """

    def __init__(self, *, threshold: float = 0.4, block_size: int = 32) -> None:
        super().__init__()
        self.threshold = threshold
        self.block_size = block_size

    @torch.no_grad()
    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        """Masked blocks, and the weak ones: those that hold a pixel below the threshold."""

        def permute(count: int) -> Tensor:
            return torch.randperm(count, generator=generator)

        masked = release_blocks(scores, view.size, self.threshold, permute, self.block_size)
        weak = (upsample_scores(scores, view.size) < self.threshold) & view.valid
        return Masked(masked, pool_blocks(weak, self.block_size, 'max') > 0, self.block_size)


@MODELS.register_module()
class UntrainedLinear(BaseModule):
    """Estimator of the published release: an untrained Linear on the text, nothing else.

    softmax over all text positions, padding included, of V . (W T + b); no l2, no scale.
    The release stores the layer (``aug.text_proj``) but never trains it.

    Args:
        level: Level of ``features.visual`` whose patches are scored.
        checkpoint: A file of the release, whose ``aug.text_proj`` is used. Default: the
            layer is made from ``seed`` in PyTorch's default range.
        seed: Of the layer. Default: the Runner's.
    """

    def __init__(
        self, *, level: int = -1, checkpoint: str | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        self.level = level
        self.seed = seed
        self._released = None if checkpoint is None else read_projection(checkpoint)
        self._projections: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def projection(self, visual: int, text: int) -> tuple[Tensor, Tensor]:
        """W (C_v, C_t) and b (C_v,)."""
        if self._released is not None:
            if self._released[0].shape != (visual, text):
                raise ValueError(
                    f'the projection has shape {tuple(self._released[0].shape)}, the features '
                    f'need {(visual, text)}: give the release that belongs to this network'
                )
            return self._released
        key = (visual, text, run_seed(self.seed))
        if key not in self._projections:
            generator = torch.Generator().manual_seed(key[2])
            weight, bias = (
                (torch.rand(shape, generator=generator) * 2 - 1) * text**-0.5
                for shape in ((visual, text), (visual,))
            )
            self._projections[key] = weight, bias
        return self._projections[key]

    @torch.no_grad()
    def forward(self, view: View) -> Alignment:
        """Scores on the patch grid, and the entropy of the soft-max."""
        visual, text = view.features.visual[self.level], view.features.text
        with torch.autocast(visual.device.type, enabled=False):
            layer = self.projection(visual.shape[1], text.tokens.shape[2])
            tokens = F.linear(
                text.tokens.float(), *(to_device(part, visual.device) for part in layer)
            )
            patches = visual.float().flatten(2).transpose(1, 2)
            shares = (patches @ tokens.transpose(1, 2)).softmax(-1)
            return patch_max(shares, visual.shape[-2], visual.shape[-1])


def read_projection(path: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of ``aug.text_proj`` in a file of the release.

    Raises:
        CheckpointError: The file cannot be read, or has no such layer.
    """
    checkpoint = read_checkpoint(path)
    weights: dict[str, Any] = checkpoint.get('model', checkpoint)
    found = {key.removeprefix('module.'): value for key, value in weights.items()}
    names = ('aug.text_proj.weight', 'aug.text_proj.bias')
    missing = [name for name in names if name not in found]
    if missing:
        raise CheckpointError(
            f'{path} has no {missing[0]}: it is no file of the AMLRIS release. Without '
            'estimator.checkpoint a layer is drawn from the seed'
        )
    weight, bias = (found[name].float() for name in names)
    return weight, bias


@MODELS.register_module()
class AMLReleaseLossWrapper(TwoViews):
    """The published training step: half of the loss on each view, one backward pass.

    The masked view gets the clean view's text features, as in the release: its gradients reach
    the clean view's encoders, whose graph stays in memory.

    Args:
        estimator: Default: :class:`UntrainedLinear`.
        filter: Default: :class:`ReleaseAFM`.
        seed: Of the draws. Default: the Runner's.
    """

    prefix = 'aml.'
    reads_clean_graph = True

    def __init__(
        self,
        *,
        estimator: dict[str, Any] | None = None,
        filter: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        masker = Masker(
            estimator or dict(type='mmseg_aml.UntrainedLinear'),
            filter or dict(type='mmseg_aml.ReleaseAFM'),
        )
        super().__init__(masker, clean_weight=0.5, seed=seed)

    def masked_text(self, clean: View, generator: torch.Generator) -> dict[str, Any]:
        return dict(text=clean.features.text)
