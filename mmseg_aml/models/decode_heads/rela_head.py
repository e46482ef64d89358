"""ReLA's decoder: regions of the picture read pixels and words, and may say "not there".

Paper: GRES: Generalized Referring Expression Segmentation, CVPR 2023,
https://arxiv.org/abs/2306.00968. E = expressions, Q = regions = cells of the minimap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...registry import MODELS
from ...structures import TextImageFeatures
from ..layers import sine_positions
from ..no_target import has_no_target
from .rela_layers import LanguageAttention, RegionLayer
from .rela_pixel_decoder import PixelDecoder


class ReLAOutput(NamedTuple):
    """logits: (E, 2, H_0, W_0), background and target. minimap: (E, Q, 2), likewise.

    no_target: (E, 2), channel 1 = the expression refers to nothing. regions: (E, Q, C), the
    mask vectors of the regions. mask_features: (E, C, H_0, W_0).
    """

    logits: Tensor
    minimap: Tensor
    no_target: Tensor
    regions: Tensor
    mask_features: Tensor


@MODELS.register_module()
class ReLAHead(BaseDecodeHead):
    """Region-image and region-language attention with a minimap and a no-target decision.

    Reads fused levels and the words. The published loss is five times the sum of
    cross entropies of the mask, and a tenth of those of minimap and no-target decision.

    The masks that steer the attention are made from mask features resized to the level's
    size, instead of resizing Q full-size masks: resizing is linear, so they are the same to
    rounding, for a ninth of the products.

    Args:
        in_channels: Channels of the levels at stride 4, 8, 16 and 32.
        channels: Width C.
        text_channels: Channels of the words.
        grid: Rows and columns of the minimap.
        num_layers: Region layers; they take the levels in turn, coarse to fine.
        num_heads: Heads of their attentions.
        inner: Width of their feed-forward networks.
        pixel_layers: Deformable layers of the pixel decoder.
        pixel_heads: Heads of its attentions. Default: ``num_heads``.
        pixel_inner: Width of its feed-forward networks.
        num_points: Its sampling points per head and level.
        norm_groups: Groups of its group norms.
        loss_decode: Loss of the mask, upsampled to the size of the target.
        loss_minimap: Loss of the minimap, logits (E, 2, Q) against (E, Q).
        loss_no_target: Loss of the decision, logits (E, 2) against (E,).
    """

    reads_text = True
    reads_fused = True

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        text_channels: int = 768,
        grid: tuple[int, int] = (10, 10),
        num_layers: int = 9,
        num_heads: int = 8,
        inner: int = 2048,
        pixel_layers: int = 6,
        pixel_heads: int | None = None,
        pixel_inner: int = 1024,
        num_points: int = 4,
        norm_groups: int = 32,
        loss_decode: dict[str, Any] | None = None,
        loss_minimap: dict[str, Any] | None = None,
        loss_no_target: dict[str, Any] | None = None,
        align_corners: bool = False,
    ) -> None:
        cross_entropy = 'mmseg_aml.WeightedCrossEntropy'  # classes weigh (0.9, 1.1)
        super().__init__(
            list(in_channels),
            channels,
            num_classes=2,
            out_channels=2,
            dropout_ratio=0,
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            loss_decode=loss_decode or dict(type=cross_entropy, loss_weight=5.0),
            align_corners=align_corners,
            init_cfg=None,
        )
        del self.conv_seg  # masks are products of regions and pixels
        self.loss_minimap = MODELS.build(loss_minimap or dict(type=cross_entropy, loss_weight=0.5))
        self.loss_no_target = MODELS.build(
            loss_no_target or dict(type=cross_entropy, loss_weight=0.5)
        )
        self.grid = (grid[0], grid[1])
        self.pixel_decoder = PixelDecoder(
            in_channels,
            channels,
            num_layers=pixel_layers,
            num_heads=pixel_heads or num_heads,
            num_points=num_points,
            inner=pixel_inner,
            norm_groups=norm_groups,
        )
        self.query_feat = nn.Embedding(grid[0] * grid[1], channels)
        self.query_embed = nn.Embedding(grid[0] * grid[1], channels)
        self.level_embed = nn.Embedding(len(in_channels) - 1, channels)
        self.language = LanguageAttention(channels, text_channels, num_heads)
        self.layers = nn.ModuleList(
            RegionLayer(channels, heads=num_heads, inner=inner) for _ in range(num_layers)
        )
        self.decoder_norm = nn.LayerNorm(channels)
        self.mask_embed = nn.Sequential(
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )
        self.minimap_embed = nn.Linear(channels, 2)
        self.no_target_embed = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, 2)
        )

    # --- decode --------------------------------------------------------------

    def forward(self, inputs: TextImageFeatures) -> ReLAOutput:
        """Words and fused levels (E, C_i, H_i, W_i), fine to coarse -> :class:`ReLAOutput`."""
        levels = cast('list[Tensor]', self._transform_inputs(inputs.fused))
        maps, mask_features = self.pixel_decoder(levels)
        x = self.regions_of(maps, mask_features, inputs.text.tokens)
        z = self.decoder_norm(x)
        minimap, regions = self.minimap_embed(z), self.mask_embed(z)
        kernels = minimap.transpose(1, 2) @ regions  # (E, 2, C), a sum over regions
        logits = torch.einsum('ekc,echw->ekhw', kernels, mask_features.to(kernels.dtype))
        no_target = self.no_target_embed(z).mean(1)
        return ReLAOutput(logits, minimap, no_target, regions, mask_features)

    def regions_of(self, maps: Sequence[Tensor], mask_features: Tensor, words: Tensor) -> Tensor:
        """The regions after all layers: (E, Q, C)."""
        values = [
            level.flatten(2).transpose(1, 2) + own
            for level, own in zip(maps, self.level_embed.weight)
        ]
        keys = [
            value
            + sine_positions(level.shape[-2], level.shape[-1], self.channels, level).to(value.dtype)
            for value, level in zip(values, maps)
        ]
        with torch.no_grad():
            pictures = [
                F.interpolate(
                    mask_features, level.shape[-2:], mode='bilinear', align_corners=False
                ).flatten(2)
                for level in maps
            ]
        x = self.query_feat.weight.expand(len(words), -1, -1)
        for i, layer in enumerate(cast('Iterable[RegionLayer]', self.layers)):
            level = i % len(maps)
            language = self.language if i == 0 else None
            blocked = self.blocked(x, pictures[level])
            x = layer(
                x, self.query_embed.weight, keys[level], values[level], blocked, language, words
            )
        return x

    @torch.no_grad()
    def blocked(self, x: Tensor, picture: Tensor) -> Tensor:
        """Pixels outside a region's own mask: (E, Q, T) bool.

        Args:
            x: Regions (E, Q, C).
            picture: Mask features at the size of a level (E, C, T).
        """
        with torch.autocast(x.device.type, enabled=False):  # a threshold: no autocast
            x = x.to(self.query_feat.weight.dtype)
            regions = self.mask_embed(self.decoder_norm(x))
            return (regions @ picture).sigmoid() < 0.5

    # --- learn ---------------------------------------------------------------

    def loss_by_feat(  # type: ignore[override]
        self, seg_logits: ReLAOutput, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """``loss_ce`` of the mask, ``loss_minimap`` and ``loss_no_target``."""
        losses = super().loss_by_feat(seg_logits.logits, batch_data_samples)
        truth = self._stack_batch_gt(batch_data_samples) == 1
        minimap = minimap_target(truth, self.grid)
        losses['loss_minimap'] = self.loss_minimap(seg_logits.minimap.transpose(1, 2), minimap)
        losses['loss_no_target'] = self.loss_no_target(
            seg_logits.no_target, has_no_target(batch_data_samples, seg_logits.no_target)
        )
        return losses

    # --- use -----------------------------------------------------------------

    def predict(  # type: ignore[override]
        self, inputs: TextImageFeatures, batch_img_metas: list[dict], test_cfg: Any
    ) -> Tensor:
        """Logits (E, 2, H, W) at the (padded) input size."""
        return self.predict_generalised(inputs, batch_img_metas, test_cfg)[0]

    def predict_generalised(
        self, inputs: TextImageFeatures, batch_img_metas: list[dict], test_cfg: Any
    ) -> tuple[Tensor, Tensor]:
        """Logits (E, 2, H, W) at the (padded) input size, and no-target decisions (E,) bool.

        The mask stays as it is where the decision is "no target".
        """
        output = self.forward(inputs)
        logits = self.predict_by_feat(output.logits, batch_img_metas)
        return logits, output.no_target.argmax(1) == 1

    @torch.no_grad()
    def maps(self, features: TextImageFeatures) -> dict[str, Tensor]:
        """Pictures (E, h, w): the minimap, and the mask of the region that it likes most."""
        output = self.forward(features)
        likes = output.minimap.softmax(-1)[..., 1]  # (E, Q)
        best = output.regions[torch.arange(len(likes)), likes.argmax(1)]
        mask = torch.einsum('ec,echw->ehw', best, output.mask_features.to(best.dtype))
        return {'minimap': likes.unflatten(1, self.grid), 'strongest region': mask.sigmoid()}


def minimap_target(truth: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cells (E, Q) int64 {0, 1} of masks (E, 1, H, W) bool, row major.

    A bilinear sample at the centre of the cell, cut down to an integer: at 480 x 480 and
    10 x 10 cells, a cell is 1 if all four pixels at its centre are.
    """
    return F.interpolate(truth.float(), grid, mode='bilinear').long().flatten(1)
