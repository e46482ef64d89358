"""DETRIS's decoder: gated neck, transformer decoder, dynamic kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextImageFeatures

from .detris_layers import Decoder, GatedNeck, Projector

IGNORED = 255


@MODELS.register_module()
class DETRISHead(BaseDecodeHead):
    """One map of foreground logits at four times the patches (https://arxiv.org/abs/2501.08580).

    Args:
        in_channels: Widths of three maps of one size.
        channels: Width C of neck and decoder; also the width of the words.
        num_layers: Decoder layers.
        num_heads: Heads of all attentions.
        ffn_channels: Inner width of the feed-forward networks.
        dropout: Of the decoder.
        projector_channels: Width of the last map.
        threshold: Foreground probability of a mask; published: 0.35.
        loss_decode: Reads logits and the target (E, 1, h, w) in [0, 1], 255 = ignored.
    """

    reads_text = True

    def __init__(
        self,
        *,
        in_channels: Sequence[int] = (768, 768, 768),
        channels: int = 512,
        num_layers: int = 3,
        num_heads: int = 8,
        ffn_channels: int = 512,
        dropout: float = 0.1,
        projector_channels: int = 256,
        threshold: float = 0.35,
        loss_decode: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            list(in_channels),
            channels,
            num_classes=2,
            out_channels=1,
            threshold=threshold,
            dropout_ratio=0,
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            loss_decode=loss_decode or dict(type='mmseg_aml.SoftBinaryCrossEntropy'),
            align_corners=False,
            init_cfg=None,
        )
        del self.conv_seg  # the kernel comes from the sentence
        if len(in_channels) != 3:
            raise ValueError(f'DETRISHead reads three maps, got in_channels={tuple(in_channels)}')
        self.neck = GatedNeck(list(in_channels), channels, channels, num_heads)
        self.decoder = Decoder(num_layers, channels, num_heads, ffn_channels, dropout)
        self.proj = Projector(channels, projector_channels, channels)

    def forward(self, inputs: TextImageFeatures) -> Tensor:
        """Three maps (E, C_i, h, w) and text -> logits (E, 1, 4h, 4w)."""
        words, mask, sentence = inputs.text
        picture = self.decoder(self.neck(inputs.visual, sentence), words, mask)
        return self.proj(picture, sentence)

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Loss at the size of the logits.

        Args:
            seg_logits: (E, 1, h, w).
            batch_data_samples: With ``gt_sem_seg`` (1, H, W) of 0, 1 and 255 (ignored), or
                ``gt_soft_mask`` (1, H, W) in [0, 1], which goes first. Resized nearest.
        """
        masks = [
            s.gt_soft_mask.data if 'gt_soft_mask' in s else s.gt_sem_seg.data  # type: ignore
            for s in batch_data_samples
        ]
        target = F.interpolate(torch.stack(masks).to(seg_logits.dtype), seg_logits.shape[2:])
        criterion = cast(Any, self.loss_decode)
        return {criterion.loss_name: criterion(seg_logits, target)}

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits as they are, (E, 1, 4h, 4w): published evaluation upsamples probabilities."""
        return seg_logits

    @torch.no_grad()
    def maps(self, features: TextImageFeatures) -> dict[str, Tensor]:
        """Pictures (E, h, w) in [0, 1] of the last layer's attention from pixels to words.

        ``attention to words``: all but the opening and the closing token, the greatest pixel
        of a picture being 1.
        """
        tokens, mask, sentence = features.text
        weights = self.decoder.word_weights(self.neck(features.visual, sentence), tokens, mask)
        slots = torch.arange(mask.shape[1], device=mask.device)
        words = mask & (slots > 0) & (slots < (mask * slots).amax(1, keepdim=True))
        shared = (weights * words[..., None, None]).sum(1)
        return {'attention to words': shared / shared.amax((1, 2), keepdim=True).clamp_min(1e-6)}
