"""A relevance map that is learned from the masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...structures import TextImageFeatures
from ..base import Alignment, View


@MODELS.register_module()
class LearnedRelevance(BaseModule):
    """Cosine of projected patches and a projected sentence, trained beside the host.

    s_n = sigmoid(a <p(V_n), q> + b), q = sum_l softmax_l(u T_l) W T_l over the real words;
    p(V_n) and q have length 1. The loss is a cross entropy on the patches in which target and
    rest weigh the same, so that 0.5 is where a patch is as likely one as the other. The
    features are detached: the host learns nothing from it.

    Args:
        in_channels: Width of the scored level of ``features.visual``.
        text_channels: Width of the words.
        dim: Width of the common space.
        level: Level of ``features.visual`` whose patches are scored.
    """

    def __init__(
        self, *, in_channels: int, text_channels: int, dim: int = 64, level: int = -1
    ) -> None:
        super().__init__()
        self.level = level
        self.patches = nn.Conv2d(in_channels, dim, 1)
        self.words = nn.Linear(text_channels, dim)
        self.attention = nn.Linear(text_channels, 1, bias=False)
        self.slope = nn.Parameter(torch.tensor(10.0))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def logits(self, features: TextImageFeatures) -> Tensor:
        """(E, h, w), before the sigmoid."""
        visual, text = features.visual[self.level].detach(), features.text
        with torch.autocast(visual.device.type, enabled=False):
            tokens = text.tokens.detach().float()
            weight = self.attention(tokens)[..., 0].masked_fill(~text.mask, float('-inf'))
            sentence = torch.einsum('el,eld->ed', weight.softmax(1), self.words(tokens))
            patches = F.normalize(self.patches(visual.float()), dim=1)
            cosine = torch.einsum('edhw,ed->ehw', patches, F.normalize(sentence, dim=1))
            return self.slope * cosine + self.offset

    @torch.no_grad()
    def forward(self, view: View) -> Alignment:
        """Scores on the patch grid."""
        return Alignment(self.logits(view.features).sigmoid())

    def loss(self, view: View) -> dict[str, Tensor]:
        """``loss_relevance``: mean over the expressions; without target, of the rest alone."""
        logits = self.logits(view.features)
        grid = logits.shape[-2:]
        target = view.targets & view.valid
        inside, rest = (
            F.interpolate(part[:, None].float(), grid, mode='area')[:, 0].flatten(1)
            for part in (target, view.valid & ~target)
        )
        flat = logits.flatten(1)
        missed = (inside * F.softplus(-flat)).sum(1) / inside.sum(1).clamp_min(1e-6)
        false = (rest * F.softplus(flat)).sum(1) / rest.sum(1).clamp_min(1e-6)
        return {'loss_relevance': (missed + false).mean() / 2}
