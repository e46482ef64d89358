"""Sentences are tokenised once: what was made of them is remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...structures import TextTokens


class SeenSentences:
    """Token ids of sentences that came before, 12 bytes a position.

    Args:
        limit: Sentences; beyond it everything is forgotten (RefCOCO has 142 000).
    """

    def __init__(self, limit: int = 2**18) -> None:
        self.limit = limit
        self.parts = 0  # ids, mask and, of a fast tokenizer, the starts of words
        self._rows: dict[str, bytes] = {}

    def __deepcopy__(self, memo: object) -> SeenSentences:
        """A copied network, as of an average of weights, looks for itself."""
        return SeenSentences(self.limit)

    def tokens(
        self, expressions: Sequence[str], tokenize: Callable[[list[str]], TextTokens]
    ) -> TextTokens:
        """Tokens (E, L) on the CPU; ``tokenize`` is asked for those that are new."""
        if len(self._rows) > self.limit:
            self._rows.clear()
        new = [text for text in dict.fromkeys(expressions) if text not in self._rows]
        if new:
            made = torch.stack([part.int() for part in tokenize(new) if part is not None], 1)
            self.parts = made.shape[1]
            self._rows.update(zip(new, (row.tobytes() for row in made.numpy())))
        joined = bytearray().join(self._rows[text] for text in expressions)
        table = torch.frombuffer(joined, dtype=torch.int32).view(len(expressions), self.parts, -1)
        ids, *flags = table.unbind(1)
        return TextTokens(ids.long(), *(flag.bool() for flag in flags))
