"""PMME: how well does each image patch match the referring expression?

AMLRIS, ICLR 2026, arXiv 2602.22740, section "PatchMax Matching Evaluation".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS
from ..structures import TextImageFeatures


def gaussian_projection(rows: int, columns: int, seed: int, std: float) -> Tensor:
    """A fixed Gaussian matrix (rows, columns): the same on all ranks and after resume."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator) * std


def pmme_probabilities(
    patches: Tensor, tokens: Tensor, mask: Tensor, temperature: float = 1.0
) -> Tensor:
    """Soft-max over the real tokens of every patch.

    Args:
        patches: (E, N, D) patches.
        tokens: (E, L, D) tokens in the space of the patches.
        mask: (E, L) bool, True = real token.
        temperature: Divides the logits.

    Returns:
        (E, N, L) float32, rows sum to 1, 0 at padding tokens.
    """
    logits = torch.einsum('end,eld->enl', patches.float(), tokens.float()) / temperature
    return logits.masked_fill(~mask[:, None], float('-inf')).softmax(-1)


class SoftmaxEstimator(BaseModule):
    """Alignment estimators that share every patch among the words and take the best word.

    Args:
        level: Level of ``features.visual`` whose patches are scored.
    """

    def __init__(self, level: int = -1) -> None:
        super().__init__()
        self.level = level

    def probabilities(self, features: TextImageFeatures) -> Tensor:
        """(E, N, L) float32: how the words share every patch; rows sum to 1."""
        raise NotImplementedError

    @torch.no_grad()
    def score(self, features: TextImageFeatures) -> tuple[Tensor, Tensor]:
        """Scores (E, h, w) in [0, 1] and the mean entropy (E,) of the soft-max in nats."""
        height, width = features.visual[self.level].shape[-2:]
        probabilities = self.probabilities(features)
        entropy = torch.special.entr(probabilities).sum(-1).mean(-1)
        return probabilities.amax(-1).unflatten(1, (height, width)), entropy

    def forward(self, features: TextImageFeatures) -> Tensor:
        """Scores (E, h, w) in [0, 1], higher = better aligned; no gradient."""
        return self.score(features)[0]


@MODELS.register_module()
class PMME(SoftmaxEstimator):
    """Alignment estimator of the paper: l2, random projection, soft-max, PatchMax.

    s_n = max_l softmax_l(<V_n W_i / |V_n|, T_l W_t / |T_l|> / t)

    Two independent Gaussian matrices carry no signal: E<W_i v, W_t u> = 0 with variance
    1/D. With entries N(0, 1/D) the logits have standard deviation 1/sqrt(D) = 0.022 at
    D = 2048, so that with t = 1 no score of a sentence of more than two tokens reaches
    0.4. ``temperature=0.012`` is what makes the scores straddle the threshold.

    Args:
        dim: Width D of the common space.
        temperature: t; the paper's formula as written is 1.
        shared: One matrix for both modalities instead of two; needs equal widths, or the
            narrower modality is zero-padded. The inner product is then (nearly) kept.
        level: Level of ``features.visual`` whose patches are scored.
        seed: Of the projections.
    """

    def __init__(
        self,
        *,
        dim: int = 2048,
        temperature: float = 0.012,
        shared: bool = False,
        level: int = -1,
        seed: int = 0,
    ) -> None:
        super().__init__(level)
        self.dim = dim
        self.temperature = temperature
        self.shared = shared
        self.seed = seed
        self._products: dict[tuple[int, int, torch.device], Tensor] = {}

    def projections(self, visual: int, text: int) -> tuple[Tensor, Tensor]:
        """W_i (C_v, D) and W_t (C_t, D)."""
        std = self.dim**-0.5
        width = max(visual, text) if self.shared else visual
        image = gaussian_projection(width, self.dim, self.seed, std)
        if self.shared:
            return image[:visual], image[:text]
        return image, gaussian_projection(text, self.dim, self.seed + 1, std)

    def product(self, visual: int, text: int, device: torch.device) -> Tensor:
        """W_i W_t^T (C_v, C_t), made once on the CPU and kept out of checkpoints.

        <V W_i, T W_t> = V (W_i W_t^T) T^T: the common space itself is never needed.
        """
        key = (visual, text, device)
        if key not in self._products:
            image, words = self.projections(visual, text)
            self._products[key] = (image @ words.T).to(device)
        return self._products[key]

    @torch.no_grad()
    def probabilities(self, features: TextImageFeatures) -> Tensor:
        """(E, N, L) float32: how the words share every patch."""
        visual, text = features.visual[self.level], features.text
        with torch.autocast(visual.device.type, enabled=False):
            product = self.product(visual.shape[1], text.tokens.shape[2], visual.device)
            patches = F.normalize(visual.float().flatten(2).transpose(1, 2), dim=-1)
            tokens = F.normalize(text.tokens.float(), dim=-1) @ product.T  # (E, L, C_v)
            return pmme_probabilities(patches, tokens, text.mask, self.temperature)


@MODELS.register_module()
class UntrainedLinear(SoftmaxEstimator):
    """Estimator of the published release: an untrained Linear on the text, nothing else.

    softmax over all text positions, padding included, of V . (W T + b); no l2, no scale.
    The release stores the layer (``aug.text_proj``) but never trains it; here it is made
    from ``seed`` in PyTorch's default range, or set by :meth:`load_projection`.

    Args:
        level: Level of ``features.visual`` whose patches are scored.
        seed: Of the layer.
    """

    def __init__(self, *, level: int = -1, seed: int = 0) -> None:
        super().__init__(level)
        self.seed = seed
        self._projection: tuple[Tensor, Tensor] | None = None

    def load_projection(self, weight: Tensor, bias: Tensor) -> None:
        """Uses W (C_v, C_t) and b (C_v,) of a released checkpoint (``aug.text_proj``)."""
        self._projection = (weight.detach().float(), bias.detach().float())

    def projection(self, visual: int, text: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """W (C_v, C_t) and b (C_v,)."""
        if self._projection is None:
            generator = torch.Generator().manual_seed(self.seed)
            bound = text**-0.5
            weight, bias = (
                (torch.rand(shape, generator=generator) * 2 - 1) * bound
                for shape in ((visual, text), (visual,))
            )
            self._projection = (weight, bias)
        weight, bias = (tensor.to(device) for tensor in self._projection)
        if weight.shape != (visual, text):
            raise ValueError(
                f'the projection has shape {tuple(weight.shape)}, the features need '
                f'{(visual, text)}: load the aug.text_proj that belongs to this network'
            )
        self._projection = (weight, bias)
        return weight, bias

    @torch.no_grad()
    def probabilities(self, features: TextImageFeatures) -> Tensor:
        """(E, N, L) float32, padding positions included."""
        visual, text = features.visual[self.level], features.text
        with torch.autocast(visual.device.type, enabled=False):
            weight, bias = self.projection(visual.shape[1], text.tokens.shape[2], visual.device)
            tokens = F.linear(text.tokens.float(), weight, bias)
            patches = visual.float().flatten(2).transpose(1, 2)
            return (patches @ tokens.transpose(1, 2)).softmax(-1)


@MODELS.register_module()
class UniformNoise(BaseModule):
    """A map that knows nothing: uniform noise in [0, 1), the control of every estimator.

    Args:
        level: Level of ``features.visual`` that gives the grid.
        seed: Of the noise.
    """

    def __init__(self, *, level: int = -1, seed: int = 0) -> None:
        super().__init__()
        self.level = level
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, features: TextImageFeatures) -> Tensor:
        """Scores (E, h, w), new ones in every call."""
        level = features.visual[self.level]
        shape = (len(level), *level.shape[-2:])
        return torch.rand(shape, generator=self._generator).to(level.device)
