"""VIPA: pixels read a visual expression instead of words.

Paper: arXiv 2602.14788, whose code was not released. Published: the two steps of the visual
expression, retrieval of a share r = 0.3 by cosine relevance, the decoder's queries, keys and
values, and the three losses. Everything else (widths, norms, number of layers, up-sampling,
sampler, temperatures, weights of the losses) is our choice: docs/vipa.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures, TextImageFeatures

from .vipa_layers import AttentionBlock, VisualExpressionGenerator, project
from .vipa_retrieval import Retrieval, relevance_loss


class VIPAOutput(NamedTuple):
    """What :meth:`VIPAHead.forward` gives.

    logits: (E, 1, H_0, W_0). relevance: (E, L, h, w) cosine, and retrieved: (E, L, h, w)
    bool, both at the token level; None without retrieval. cue_mask: (E, L) bool.
    """

    logits: Tensor
    relevance: Tensor | None
    retrieved: Tensor | None
    cue_mask: Tensor


@MODELS.register_module()
class VIPAHead(BaseDecodeHead):
    """Visual Expression Generator and a transformer decoder over four scales.

    Reads ``features.fused``: levels without text (plain backbone), after late fusion
    (``CrossAttentionFusion``) or early fusion (LAVT's backbone). Image padding is not known
    to the head: its tokens can be retrieved.

    Args:
        in_channels: C_i of the levels, fine to coarse.
        token_level: Level whose N cells are the visual tokens; the coarsest by default.
        channels: Width C.
        text_channels: Channels of the text encoder.
        expression: Keys and values of the decoder: ``'visual'``, or ``'language'`` (the
            projected cues, an ablation).
        cues: ``'both'``, ``'global'`` (the sentence) or ``'local'`` (the words).
        steps, ratio, sampler, sample_temperature, attention_temperature: See
            :class:`VisualExpressionGenerator`.
        num_heads: Heads of all attentions.
        expansion: Inner width of all feed-forward networks over C.
        contrast_weight: Weight of the loss on relevance maps; 0 leaves it out.
        contrast_cues: ``'all'`` cues or the ``'global'`` one learn from that loss.
        contrast_temperature: Its initial temperature, which is learned.
        loss_decode: Losses of the mask; default binary cross entropy and Dice.
        threshold: Of the sigmoid in predictions.
    """

    reads_text = True
    reads_fused = True

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        channels: int = 256,
        text_channels: int = 768,
        token_level: int = -1,
        expression: str = 'visual',
        cues: str = 'both',
        steps: str = 'both',
        ratio: float = 0.3,
        sampler: str = 'gumbel_topk_st',
        sample_temperature: float = 0.1,
        attention_temperature: float = 0.07,
        num_heads: int = 8,
        expansion: int = 4,
        contrast_weight: float = 1.0,
        contrast_cues: str = 'all',
        contrast_temperature: float = 0.07,
        norm_cfg: dict[str, Any] | None = None,
        loss_decode: list[dict[str, Any]] | dict[str, Any] | None = None,
        threshold: float = 0.5,
        align_corners: bool = False,
    ) -> None:
        super().__init__(
            list(in_channels),
            channels,
            num_classes=2,
            out_channels=1,
            threshold=threshold,
            dropout_ratio=0,
            norm_cfg=norm_cfg or dict(type='BN'),
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            loss_decode=loss_decode or default_losses(),
            align_corners=align_corners,
        )
        check_option('expression', expression, ('visual', 'language'))
        check_option('cues', cues, ('both', 'global', 'local'))
        check_option('contrast_cues', contrast_cues, ('all', 'global'))
        if (cues, contrast_cues) == ('local', 'global'):
            raise ValueError("cues='local' has no global cue: set contrast_cues='all'")
        self.token_level = token_level
        self.cues = cues
        self.contrast_cues = contrast_cues
        self.text_projection = project(text_channels, channels)
        self.generator: VisualExpressionGenerator | None = None
        self.contrast_weight = 0.0
        if expression == 'visual':
            self.visual_projection = project(in_channels[token_level], channels)
            self.generator = VisualExpressionGenerator(
                channels,
                ratio=ratio,
                sampler=sampler,
                sample_temperature=sample_temperature,
                attention_temperature=attention_temperature,
                steps=steps,
                heads=num_heads,
                expansion=expansion,
            )
            self.contrast_weight = 0.0 if steps == 'refinement' else contrast_weight
        if self.contrast_weight > 0:
            self.contrast_scale = nn.Parameter(torch.tensor(math.log(1 / contrast_temperature)))
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        self.attentions = nn.ModuleList(
            AttentionBlock(channels, num_heads, expansion) for _ in in_channels
        )
        self.merges = nn.ModuleList(
            ConvModule(2 * channels, channels, 3, padding=1, norm_cfg=self.norm_cfg)
            for _ in in_channels[:-1]
        )

    # --- the expression ------------------------------------------------------

    def cues_of(self, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Cues (E, L, C) and their mask: row 0 the sentence, then the words (and [SEP])."""
        everything = torch.cat([text.sentence[:, None], text.tokens[:, 1:]], 1)
        rows = {'both': slice(None), 'global': slice(1), 'local': slice(1, None)}[self.cues]
        return self.text_projection(everything[:, rows]), text.mask[:, rows]

    def visual_tokens(self, levels: Sequence[Tensor]) -> Tensor:
        """The cells of the token level: (E, N, C)."""
        return self.visual_projection(levels[self.token_level].flatten(2).transpose(1, 2))

    def levels_of(self, features: TextImageFeatures) -> list[Tensor]:
        """The levels that the head reads, fine to coarse."""
        return cast('list[Tensor]', self._transform_inputs(features.fused))

    # --- decode --------------------------------------------------------------

    def forward(self, inputs: TextImageFeatures) -> VIPAOutput:
        """Text and levels (E, C_i, H_i, W_i), fine to coarse -> :class:`VIPAOutput`."""
        levels = self.levels_of(inputs)
        tokens, cue_mask = self.cues_of(inputs.text)
        retrieval: Retrieval | None = None
        if self.generator is not None:
            tokens, retrieval = self.generator(tokens, cue_mask, self.visual_tokens(levels))
        logits = self.decode(levels, tokens, cue_mask)
        if retrieval is None:
            return VIPAOutput(logits, None, None, cue_mask)
        grid = levels[self.token_level].shape[-2:]
        relevance, retrieved = (
            x.unflatten(-1, grid) for x in (retrieval.relevance, retrieval.mask)
        )
        return VIPAOutput(logits, relevance, retrieved, cue_mask)

    def decode(self, levels: Sequence[Tensor], expression: Tensor, cue_mask: Tensor) -> Tensor:
        """Coarse to fine: pixels read the expression, then meet the next level."""
        laterals = [lateral(level) for lateral, level in zip(self.laterals, levels)]
        x = laterals[-1]
        for i in reversed(range(len(laterals))):
            pixels = x.flatten(2).transpose(1, 2)  # (E, H_i*W_i, C)
            pixels = self.attentions[i](pixels, cue_mask[:, None], expression)
            x = pixels.transpose(1, 2).unflatten(2, x.shape[-2:])
            if i > 0:
                fine = laterals[i - 1]
                up = resize(x, fine.shape[-2:], mode='bilinear', align_corners=self.align_corners)
                x = self.merges[i - 1](torch.cat([up, fine], 1))
        return self.cls_seg(x)

    def loss_by_feat(  # type: ignore[override]
        self, seg_logits: VIPAOutput, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """``loss_bce`` and ``loss_dice`` of the mask, ``loss_contrast`` of the relevance."""
        losses = super().loss_by_feat(seg_logits.logits, batch_data_samples)
        if self.contrast_weight > 0 and seg_logits.relevance is not None:
            count = 1 if self.contrast_cues == 'global' else None
            loss = relevance_loss(
                seg_logits.relevance[:, :count],
                seg_logits.cue_mask[:, :count],
                self._stack_batch_gt(batch_data_samples)[:, 0],
                self.contrast_scale.exp(),
                tuple(seg_logits.logits.shape[-2:]),  # type: ignore[arg-type]
                self.ignore_index,
            )
            losses['loss_contrast'] = self.contrast_weight * loss
        return losses

    def predict(  # type: ignore[override]
        self, inputs: TextImageFeatures, batch_img_metas: list[dict], test_cfg: Any
    ) -> Tensor:
        """Logits (E, 1, H, W) at the (padded) input size."""
        return self.predict_by_feat(self.forward(inputs).logits, batch_img_metas)

    # --- look ----------------------------------------------------------------

    @torch.no_grad()
    def maps(self, features: TextImageFeatures) -> dict[str, Tensor]:
        """Pictures (E, h, w) of the retrieval, without running the decoder.

        ``relevance of the sentence`` and (mean) ``of the words``; ``retrieved``: the share
        of the cues that retrieved a visual token. Empty without retrieval.
        """
        if self.generator is None or self.generator.steps == 'refinement':
            return {}
        levels = self.levels_of(features)
        cues, mask = self.cues_of(features.text)
        found = self.generator.retrieve(cues, mask, self.visual_tokens(levels))
        words = mask.clone()
        maps = {'retrieved': masked_mean(found.mask.float(), mask)}
        if self.cues != 'local':
            maps['relevance of the sentence'] = found.relevance[:, 0]
            words[:, 0] = False
        if self.cues != 'global':
            maps['relevance of the words'] = masked_mean(found.relevance, words)
        grid = levels[self.token_level].shape[-2:]
        return {name: values.unflatten(-1, grid) for name, values in maps.items()}


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean (E, N) of the rows of ``values`` (E, L, N) that ``mask`` (E, L) names."""
    return (values * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def default_losses() -> list[dict[str, Any]]:
    """Binary cross entropy and Dice, weighted equally (the paper's weights are unknown)."""
    return [
        dict(type='mmseg_aml.BinaryCrossEntropy', avg_non_ignore=True, loss_name='loss_bce'),
        dict(type='mmseg_aml.BinaryDiceLoss'),
    ]


def check_option(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuses a setting that is not among the allowed ones."""
    if value not in allowed:
        raise ValueError(f'{name} must be one of {tuple(allowed)}, got {value!r}')
