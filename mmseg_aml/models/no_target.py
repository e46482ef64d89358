"""Expressions that refer to nothing: the truth, a small head, and who else decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.model import BaseModule
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..registry import MODELS
from ..structures import TextImageFeatures
from ..transfer import to_device


@runtime_checkable
class GeneralisedHead(Protocol):
    """A decode head that also decides whether an expression refers to anything."""

    def predict_generalised(
        self, inputs: Any, batch_img_metas: list[dict], test_cfg: Any
    ) -> tuple[Tensor, Tensor]:
        """Logits (E, 1 or 2, H, W) at the input size, and "no target" (E,) bool."""
        ...


def check_one_decides(decode_head: nn.Module, no_target_head: nn.Module | None) -> None:
    """Refuse a head beside one that decides itself."""
    if no_target_head is not None and isinstance(decode_head, GeneralisedHead):
        raise ValueError(
            f'{type(decode_head).__name__} decides itself whether there is a target: '
            'drop no_target_head'
        )


def has_no_target(data_samples: Sequence[SegDataSample], like: Tensor) -> Tensor:
    """The truth (E,) int64 {0, 1}: metainfo ``no_target``, else whether the mask is empty.

    The mask alone is not enough: a target may vanish when the image is resized.
    """
    given = [sample.metainfo.get('no_target') for sample in data_samples]
    known = to_device(torch.tensor([bool(flag) for flag in given]), like.device)
    if None not in given:
        return known.long()
    masks: list[Tensor] = [sample.gt_sem_seg.data for sample in data_samples]  # type: ignore
    empty = torch.stack([(mask != 1).all() for mask in masks])
    unknown = to_device(torch.tensor([flag is None for flag in given]), like.device)
    return torch.where(unknown, empty, known).long()


@MODELS.register_module()
class NoTargetHead(BaseModule):
    """Whether an expression refers to anything, from what a decode head reads (ours).

    Pixels of one fused level beside the sentence go through a small network; the strongest
    response of every channel anywhere, and the mean one, decide.

    Args:
        in_channels: Channels of the level.
        in_index: Which of the fused levels.
        text_channels: Channels of the sentence.
        channels: Inner width C.
        loss: Loss on logits (E, 2) against (E,).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        text_channels: int,
        in_index: int = -1,
        channels: int = 64,
        loss: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_index = in_index
        self.pixels = nn.Linear(in_channels, channels)
        self.sentence = nn.Linear(text_channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.respond = nn.Linear(channels, channels)
        self.decide = nn.Linear(2 * channels, 2)
        self.criterion = MODELS.build(
            loss or dict(type='mmseg_aml.WeightedCrossEntropy', class_weight=(1.0, 1.0))
        )

    def forward(self, features: TextImageFeatures) -> Tensor:
        """Logits (E, 2), channel 1 = no target."""
        pixels = features.fused[self.in_index].flatten(2).transpose(1, 2)  # (E, N, C_in)
        together = self.pixels(pixels) + self.sentence(features.text.sentence)[:, None]
        responses = self.respond(self.norm(together).relu()).relu()
        return self.decide(torch.cat((responses.amax(1), responses.mean(1)), 1))

    def loss(
        self, features: TextImageFeatures, data_samples: Sequence[SegDataSample]
    ) -> dict[str, Tensor]:
        """``loss_ce`` of the decision."""
        logits = self.forward(features)
        return {'loss_ce': self.criterion(logits, has_no_target(data_samples, logits))}
