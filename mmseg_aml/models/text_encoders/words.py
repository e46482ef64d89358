"""Where words begin, for WordPiece, BPE and Unigram tokenizers alike."""

from __future__ import annotations

import unicodedata
from typing import Any

# Scripts that put no space between words: there every piece counts as a word of its own.
UNSPACED = ('CJK UNIFIED', 'HIRAGANA', 'KATAKANA', 'THAI', 'LAO', 'KHMER', 'MYANMAR')


def word_starts(encoding: Any, sentence: str) -> list[bool]:
    """For every token of one sentence, whether a word begins with it.

    Args:
        encoding: ``batch.encodings[i]`` of a fast tokenizer: its words come from the
            pre-tokenizer, so the marks of the kinds ("##", "\u0120", "\u2581") need no knowledge.
        sentence: The text that was encoded.

    Returns:
        One flag a token; False at special tokens.
    """
    starts, before = [], None
    for word, (first, last) in zip(encoding.word_ids, encoding.offsets):
        # A piece may hold the space before its word.
        text = sentence[first:last].lstrip()
        begins = word is not None and (word != before or (text != '' and is_unspaced(text[0])))
        starts.append(begins)
        before = word
    return starts


def is_unspaced(character: str) -> bool:
    """Whether the script of ``character`` writes words without spaces between them."""
    return unicodedata.name(character, '').startswith(UNSPACED)
