"""Masking of words in a referring expression, as BERT's pretraining does it.

MaskRIS, arXiv 2411.19067. E = expressions in the batch, L = text positions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any, NamedTuple

import torch

from ...structures import TextTokens


class Vocabulary(NamedTuple):
    """What text masking knows of a tokenizer: special ids are never masked."""

    size: int
    mask_id: int
    special: Collection[int]

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a Hugging Face tokenizer.

        Raises:
            ValueError: The tokenizer has no mask token (CLIP).
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f'{type(tokenizer).__name__} has no mask token, so words cannot be masked: '
                'set model.loss_wrapper.text_ratio=0, or use a BERT or RoBERTa text encoder'
            )
        return cls(len(tokenizer), tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))


def mask_tokens(
    ids: Sequence[int],
    random: Random,
    vocabulary: Vocabulary,
    *,
    ratio: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
) -> list[int]:
    """Replaces tokens of one sentence at random.

    One number is drawn for every position, special or not, and one more for every random
    id: with the same ``random`` the ids are those of the published code.

    Args:
        ids: L token ids, special ones and padding included.
        random: Source of the draws.
        vocabulary: Of the tokenizer that made ``ids``.
        ratio: Share of the words that is chosen.
        shares: Of the chosen words, these shares become the mask token and a random id; the
            rest stays as it is.

    Returns:
        L ids.
    """
    masked = []
    for token in ids:
        draw = random.random()
        if draw < ratio and token not in vocabulary.special:
            draw /= ratio
            if draw < shares[0]:
                token = vocabulary.mask_id
            elif draw < sum(shares):
                token = random.randrange(vocabulary.size)
        masked.append(token)
    return masked


def mask_words(
    ids: Sequence[int],
    starts: Sequence[bool],
    random: Random,
    vocabulary: Vocabulary,
    *,
    ratio: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
) -> list[int]:
    """As :func:`mask_tokens`, but all pieces of a word share its fate.

    Args:
        ids: L token ids.
        starts: L flags, True where a word begins.
    """
    masked, fate = [], 1.0
    for token, begins in zip(ids, starts):
        if begins:
            fate = random.random() / ratio
        if token in vocabulary.special or fate >= sum(shares):
            masked.append(token)
        elif fate < shares[0]:
            masked.append(vocabulary.mask_id)
        else:
            masked.append(random.randrange(vocabulary.size))
    return masked


def mask_batch(
    tokens: TextTokens,
    generator: torch.Generator,
    vocabulary: Vocabulary,
    *,
    ratio: float,
    shares: tuple[float, float],
    whole_words: bool = False,
) -> TextTokens:
    """:func:`mask_tokens` or :func:`mask_words` on every row (E, L); masks stay as they are.

    Raises:
        ValueError: ``whole_words``, and the tokenizer does not say where words begin.
    """
    random = Random(int(torch.randint(2**62, (), generator=generator)))
    options: dict[str, Any] = dict(ratio=ratio, shares=shares)
    if whole_words:
        if tokens.starts is None:
            raise ValueError(
                'the tokenizer is a slow one, which does not say where words begin: set '
                'model.loss_wrapper.whole_words=False'
            )
        pairs = zip(tokens.ids.tolist(), tokens.starts.tolist())
        rows = [mask_words(*pair, random, vocabulary, **options) for pair in pairs]
    else:
        rows = [mask_tokens(row, random, vocabulary, **options) for row in tokens.ids.tolist()]
    return tokens._replace(ids=torch.tensor(rows, device=tokens.ids.device))
