"""PMME: how well does each image patch match the referring expression?

AMLRIS, ICLR 2026, arXiv 2602.22740, section "PatchMax Matching Evaluation".
E = expressions, N = h * w patches, L = tokens, D = width of the common space.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ...structures import TextImageFeatures
from ..base import Alignment, View
from ..iteration import run_seed


def soft_max(patches: Tensor, tokens: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """How the real tokens share every patch.

    Args:
        patches: (E, N, D). tokens: (E, L, D).
        mask: (E, L) bool, True = real token.
        temperature: Divides the inner products.

    Returns:
        (E, N, L) float32, rows sum to 1, 0 at padding tokens.
    """
    logits = torch.einsum('end,eld->enl', patches.float(), tokens.float()) / temperature
    return logits.masked_fill(~mask[:, None], float('-inf')).softmax(-1)


def patch_max(shares: Tensor, height: int, width: int) -> Alignment:
    """A patch's score is the share of its best word; the entropy is the patches' mean."""
    entropy = torch.special.entr(shares).sum(-1).mean(-1)
    return Alignment(shares.amax(-1).unflatten(1, (height, width)), entropy)


@MODELS.register_module()
class PMME(BaseModule):
    """Alignment estimator of the paper: l2, random projection, soft-max, PatchMax.

    s_n = max_l softmax_l(<V_n W_i / |V_n|, T_l W_t / |T_l|> / t)

    Two independent Gaussian matrices carry no signal: E<W_i v, W_t u> = 0 with variance
    1/D. With entries N(0, 1/D) the logits have standard deviation 1/sqrt(D) = 0.022 at
    D = 2048, so that with t = 1 no score of a sentence of more than two tokens reaches
    0.4. ``temperature`` is what makes the scores straddle the threshold.

    Args:
        dim: Width D of the common space.
        temperature: t; the paper's formula as written is 1.
        level: Level of ``features.visual`` whose patches are scored.
        seed: Of the projections. Default: the Runner's.
    """

    def __init__(
        self,
        *,
        dim: int = 2048,
        temperature: float = 0.012,
        level: int = -1,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.temperature = temperature
        self.level = level
        self.seed = seed
        self._products: dict[tuple[int, int, int, torch.device], Tensor] = {}

    def projections(self, visual: int, text: int, seed: int) -> tuple[Tensor, Tensor]:
        """W_i (C_v, D) and W_t (C_t, D): the same on all ranks and after resume."""
        generator = torch.Generator().manual_seed(seed)
        image = torch.randn(visual, self.dim, generator=generator)
        words = torch.randn(text, self.dim, generator=generator)
        return image * self.dim**-0.5, words * self.dim**-0.5

    def product(self, visual: int, text: int, device: torch.device) -> Tensor:
        """W_i W_t^T (C_v, C_t), made once on the CPU and kept out of checkpoints.

        <V W_i, T W_t> = V (W_i W_t^T) T^T: the common space itself is never needed.
        """
        key = (visual, text, run_seed(self.seed), device)
        if key not in self._products:
            image, words = self.projections(*key[:3])
            self._products[key] = (image @ words.T).to(device)
        return self._products[key]

    @torch.no_grad()
    def shares(self, features: TextImageFeatures) -> Tensor:
        """(E, N, L) float32: how the words share every patch; rows sum to 1."""
        visual, text = features.visual[self.level], features.text
        with torch.autocast(visual.device.type, enabled=False):
            product = self.product(visual.shape[1], text.tokens.shape[2], visual.device)
            patches = F.normalize(visual.float().flatten(2).transpose(1, 2), dim=-1)
            tokens = F.normalize(text.tokens.float(), dim=-1) @ product.T  # (E, L, C_v)
            return soft_max(patches, tokens, text.mask, self.temperature)

    def forward(self, view: View) -> Alignment:
        """Scores on the patch grid, and the entropy of the soft-max."""
        height, width = view.features.visual[self.level].shape[-2:]
        return patch_max(self.shares(view.features), height, width)
