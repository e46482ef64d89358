"""The words of a sentence look at the image, and the sentence becomes a mask.

A mask is the product of one vector per sentence and one per cell, as in MaskFormer
(arXiv 2107.06278) and its successor (arXiv 2112.01527), whose learned queries are replaced by
the words. All that is computed per sentence is a few vectors, so that an image with thirty
sentences costs little more than with one.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_aml.models.fusions.cross_attention import FusionLayer, position_code
from mmseg_aml.models.layers import FewFromMany, SelfAttention
from mmseg_aml.models.necks.pixel_encoder import feed_forward
from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures, TextImageFeatures

from .vipa_head import default_losses
from .vipa_layers import project

BACKGROUND = -2.0  # logits start here: most cells are not meant


class WordLayer(nn.Module):
    """Words attend to each other, then to the image; pre-norm."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(channels)
        self.self_attention = SelfAttention(channels, heads, 1)
        self.image_norm = nn.LayerNorm(channels)
        self.image_attention = FewFromMany(channels, heads, 1)
        self.ffn = feed_forward(channels)

    def forward(self, words: Tensor, mask: Tensor, cells: Tensor, bias: Tensor | None) -> Tensor:
        """words: (E, L, C), mask: (E, L) bool, cells: (E, N, C), bias: (E, N) -> (E, L, C)."""
        words = words + self.self_attention(self.self_norm(words), mask)
        words = words + self.image_attention(self.image_norm(words), cells, cells, bias)
        return words + self.ffn(words)


@MODELS.register_module()
class WordQueryHead(BaseDecodeHead):
    """Words as queries: layers of attention, then one dot product per cell.

    Args:
        in_channels: C of the levels, fine to coarse, all equal (``PixelEncoder``). The finest
            gives the cells of the mask, the others are what the words look at.
        text_channels: Channels of the text encoder.
        num_layers: Layers; each of them predicts a mask that is trained.
        num_comparisons: Layers in which the cells of the coarsest level read the words and each
            other, which "the left one" needs; the only work per sentence and cell.
        num_heads: Heads of all attentions.
        dropout: Rate of dropped text channels in training.
        loss_decode: Losses of the mask; default binary cross entropy and Dice.
        threshold: Of the sigmoid in predictions.
    """

    reads_text = True

    def __init__(
        self,
        *,
        in_channels: list[int],
        text_channels: int = 384,
        num_layers: int = 3,
        num_comparisons: int = 2,
        num_heads: int = 4,
        dropout: float = 0.1,
        loss_decode: list[dict[str, Any]] | dict[str, Any] | None = None,
        threshold: float = 0.5,
        align_corners: bool = False,
    ) -> None:
        channels = in_channels[0]
        if len(in_channels) < 2 or set(in_channels) != {channels}:
            raise ValueError(f'need two or more levels of equal width, got {in_channels}')
        super().__init__(
            in_channels,
            channels,
            num_classes=2,
            out_channels=1,
            threshold=threshold,
            dropout_ratio=0,
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            loss_decode=loss_decode or default_losses(),
            align_corners=align_corners,
            init_cfg=None,
        )
        del self.conv_seg  # the kernel comes from the sentence
        self.words = nn.Sequential(project(text_channels, channels), nn.Dropout(dropout))
        self.level_code = nn.Parameter(torch.zeros(len(in_channels) - 1, channels))
        self.layers = nn.ModuleList(WordLayer(channels, num_heads) for _ in range(num_layers))
        self.comparisons = nn.ModuleList(
            FusionLayer(channels, channels, num_heads, self_attention=True)
            for _ in range(num_comparisons)
        )
        self.matched = nn.Linear(1, channels)
        self.region_logit = nn.Linear(channels, 1)
        self.kernel = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, channels),
            nn.GELU(),
            nn.Linear(channels, channels + 1),  # and a bias
        )
        self.scale = 2 * channels**-0.5

    def forward(self, inputs: TextImageFeatures) -> list[Tensor]:
        """Text and levels (E, C, H_i, W_i) -> logits (E, 1, H_0, W_0), the last layer's first."""
        fine, *coarse = self._transform_inputs(inputs.fused)
        words, mask = self.words(inputs.text.tokens), inputs.text.mask
        sizes = [level.shape[-2:] for level in coarse]
        levels = [level.flatten(2).transpose(1, 2) for level in coarse]
        cells = fine.flatten(2)  # (E, C, N_0)
        places = fine.new_zeros(())
        found: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            known = self.foreground(found[-1], sizes) if found else None
            if (
                i == 1 and known is not None
            ):  # the words have met the image: now its regions compare
                levels[-1] = self.compare(levels[-1], known, sizes[-1], words, mask)
                places = self.region_logit(levels[-1]).transpose(1, 2).unflatten(2, sizes[-1])
                places = F.interpolate(places, fine.shape[-2:], mode='bilinear')
            looked_at = torch.cat([x + code for x, code in zip(levels, self.level_code)], 1)
            words = layer(words, mask, looked_at, known)
            kernel = self.kernel(words[:, :1])  # (E, 1, C + 1)
            logits = kernel[..., :-1] * self.scale @ cells + kernel[..., -1:]
            found.append(logits.unflatten(2, fine.shape[-2:]) + places + BACKGROUND)
        return found[::-1]

    def compare(
        self, regions: Tensor, known: Tensor, size: torch.Size, words: Tensor, mask: Tensor
    ) -> Tensor:
        """Cells of the coarsest level (E, N, C) learn where the mask so far is, then read the
        words and each other."""
        regions = regions + self.matched(known[:, -regions.shape[1] :, None].exp())
        place = position_code(size[0], size[1], regions.shape[2], regions)
        text = TextFeatures(words, mask, words[:, 0])
        for layer in self.comparisons:
            regions = layer(regions, place, text)
        return regions

    @staticmethod
    def foreground(logits: Tensor, sizes: list[torch.Size]) -> Tensor:
        """Where the mask so far is: log probabilities (E, N) at the levels, not below -4."""
        known = F.logsigmoid(logits.detach().float())
        levels = [F.interpolate(known, size, mode='area').flatten(1) for size in sizes]
        return torch.cat(levels, 1).clamp(min=-4)

    def loss_by_feat(  # type: ignore[override]
        self, seg_logits: list[Tensor], batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """The losses of the last layer's mask, and at half weight those of the layers before.

        They are computed at twice the size of the logits: at that of the image they would
        cost more than the head.
        """
        size = [2 * side for side in seg_logits[0].shape[-2:]]
        truth = self._stack_batch_gt(batch_data_samples)  # (E, 1, H, W)
        truth = F.interpolate(truth.float(), size, mode='nearest-exact')[:, 0].long()
        losses: dict[str, Tensor] = {}
        for i, logits in enumerate(seg_logits):
            logits = F.interpolate(logits, size, mode='bilinear')
            for loss in cast('Any', self.loss_decode):
                value = loss(logits, truth, ignore_index=self.ignore_index)
                prefix = '' if i == 0 else f'before_{i}.'
                losses[prefix + loss.loss_name] = value if i == 0 else 0.5 * value
        return losses

    def predict(  # type: ignore[override]
        self, inputs: TextImageFeatures, batch_img_metas: list[dict], test_cfg: Any
    ) -> Tensor:
        """Logits (E, 1, H, W) at the (padded) input size."""
        return self.predict_by_feat(self.forward(inputs)[0], batch_img_metas)
