"""The contracts of training strategies, and a view of the batch.

E = expressions in the batch, (H, W) = the (padded) input, (h, w) = an alignment map's grid,
(H_b, W_b) = the grid of square blocks of the input.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..models.layers.batch_statistics import frozen_batch_statistics
from ..structures import TextFeatures, TextImageFeatures, TextTokens
from .masking.blocks import Size, valid_pixels

if TYPE_CHECKING:
    from ..models.segmentors.text_image_segmentor import TextImageSegmentor


class LossWrapper(Protocol):
    """A training strategy: what happens inside ``forward(mode='loss')``.

    Returns one dict for one backward pass. Keys with "loss" are summed by MMEngine;
    statistics must not contain that word. It does nothing at inference; what it learns
    itself lies under ``loss_wrapper.`` in training checkpoints and is no part of the network.
    """

    def __call__(
        self, segmentor: TextImageSegmentor, inputs: Tensor, data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Losses of B images (B, 3, H, W) with E expressions (ground truth, ``image_index``)."""
        ...


class Alignment(NamedTuple):
    """How well the picture matches each expression.

    scores: (E, h, w) in [0, 1], higher = better. entropy: (E,) of a soft-max over the
    words in nats, None if there is none.
    """

    scores: Tensor
    entropy: Tensor | None = None

    def of(self, rows: list[int]) -> Alignment:
        """That of other expressions of the batch."""
        return Alignment(self.scores[rows], None if self.entropy is None else self.entropy[rows])


class Masked(NamedTuple):
    """Which blocks go dark. masked, weak (those that may be masked): (E, H_b, W_b) bool."""

    masked: Tensor
    weak: Tensor
    block_size: int


@dataclass(eq=False)
class View:
    """The batch as the network sees it; everything else is computed once, when asked for.

    Args:
        inputs: (B, 3, H, W) normalised images.
        samples: The E expressions with their ground truth.
        tokens, text: Token ids, or text features, to use instead of the samples' sentences.
        index: Row of ``inputs`` of every expression. Default: the samples' ``image_index``.
        learns: Train mode with gradient; else eval mode without: no dropout, no drop path,
            no random numbers, running statistics untouched.
        update_statistics: Whether BatchNorm's running statistics learn from this view.
        scale: Size at which the images are encoded.
    """

    segmentor: TextImageSegmentor
    inputs: Tensor
    samples: Sequence[SegDataSample]
    tokens: TextTokens | None = None
    text: TextFeatures | None = None
    index: list[int] | None = None
    learns: bool = True
    update_statistics: bool = True
    scale: float = 1.0

    @cached_property
    def features(self) -> TextImageFeatures:
        """What the encoders make of it."""
        images = self.inputs
        if self.scale != 1:
            size = [round(side * self.scale) for side in self.size]
            images = F.interpolate(images, size, mode='bilinear', antialias=True)
        with self._mode():
            return self.segmentor.encode(
                images, self.samples, tokens=self.tokens, text=self.text, index=self.index
            )

    @cached_property
    def output(self) -> Any:
        """What the head's ``forward`` gives: logits (E, C, h, w), or a tuple with them first."""
        with self._mode():
            return self.segmentor.head_forward(self.features)

    def supervised_loss(self, features: TextImageFeatures | None = None) -> dict[str, Tensor]:
        """The host's losses; an ``output`` that was asked for before is not computed again.

        Args:
            features: The view's, as part of another graph.
        """
        output = self.__dict__.get('output')
        with self._mode():
            return self.segmentor.supervised_loss(
                self.features if features is None else features, self.samples, output=output
            )

    @property
    def size(self) -> Size:
        """(H, W) of the (padded) input."""
        return self.inputs.shape[-2], self.inputs.shape[-1]

    @property
    def valid_sizes(self) -> list[Size]:
        """(h, w) of every expression's image without padding."""
        shapes = (sample.metainfo.get('img_shape', self.size) for sample in self.samples)
        return [(shape[0], shape[1]) for shape in shapes]

    @cached_property
    def valid(self) -> Tensor:
        """(E, H, W) bool, False in the padding right of and below each image."""
        return valid_pixels(self.valid_sizes, self.size, self.inputs.device)

    @cached_property
    def targets(self) -> Tensor:
        """(E, H, W) bool: ground truth at the input's size (test pipelines keep it original)."""
        rows = []
        for sample, inside in zip(self.samples, self.valid_sizes):
            mask: Tensor = sample.gt_sem_seg.data[None]  # type: ignore[attr-defined]
            if tuple(mask.shape[-2:]) != self.size:
                mask = F.interpolate(mask.float(), inside, mode='nearest-exact')
                missing = (0, self.size[1] - inside[1], 0, self.size[0] - inside[0])
                mask = F.pad(mask, missing)
            rows.append(mask[0, 0] == 1)
        return torch.stack(rows)

    @contextmanager
    def _mode(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.learns:
                stack.enter_context(torch.enable_grad())
                if not self.update_statistics:
                    stack.enter_context(frozen_batch_statistics(self.segmentor))
            else:
                stack.enter_context(torch.no_grad())
                stack.enter_context(evaluating(self.segmentor))
            yield


class AlignmentEstimator(Protocol):
    """Says where the picture matches the sentence. Called without gradient."""

    def __call__(self, view: View) -> Alignment: ...


@runtime_checkable
class LearningEstimator(Protocol):
    """An estimator that learns: its loss joins the step's one backward pass.

    ``loss`` is asked in every step and must reach every trainable parameter. It should
    detach the view's features, unless the network is meant to learn from it, too.
    """

    def __call__(self, view: View) -> Alignment: ...

    def loss(self, view: View) -> dict[str, Tensor]:
        """Losses by name; every name contains "loss"."""
        ...


class BlockFilter(Protocol):
    """Turns scores (E, h, w) into blocks; ``generator`` is the CPU generator of its draws."""

    def __call__(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked: ...


def check_estimator(part: nn.Module) -> None:
    """Refuses what is no :class:`AlignmentEstimator`, or would never learn."""
    _check_arguments(part, 'an alignment estimator', 'view')
    trainable = [name for name, value in part.named_parameters() if value.requires_grad]
    if trainable and not isinstance(part, LearningEstimator):
        raise TypeError(
            f'{type(part).__name__} has trainable parameters ({trainable[0]}, ...) but no '
            'loss(view) that trains them: add one, or freeze them'
        )


def check_filter(part: nn.Module) -> None:
    """Refuses what is no :class:`BlockFilter`."""
    _check_arguments(part, 'a block filter', 'scores', 'view', 'generator')


def _check_arguments(part: nn.Module, role: str, *names: str) -> None:
    signature = inspect.signature(part.forward)
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        raise TypeError(
            f'{type(part).__name__} is not {role}: forward{signature} cannot be called with '
            f'({", ".join(names)})'
        ) from error


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every part is as it was (frozen ones stay frozen)."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def scaled(losses: dict[str, Tensor], weight: float, prefix: str = '') -> dict[str, Tensor]:
    """Weights the losses of one view and prefixes its keys; statistics keep their value."""
    return {
        prefix + key: value * weight if 'loss' in key and weight != 1 else value
        for key, value in losses.items()
    }
