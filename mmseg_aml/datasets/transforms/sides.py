"""Left and right in a sentence, exchanged as a mirrored photograph exchanges them."""

from __future__ import annotations

import re

PAIRS = {
    'left': 'right',
    'leftmost': 'rightmost',
    'lefthand': 'righthand',
    'leftside': 'rightside',
    'leftward': 'rightward',
    'leftwards': 'rightwards',
    'leftie': 'rightie',
    'lefty': 'righty',
    'lft': 'rgt',
}
_EXCHANGED = {**PAIRS, **{right: left for left, right in PAIRS.items()}, 'rt': 'lft'}
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
# Words after which `right` and `left` are no side, or may be none.
_ADVERB = re.compile(
    r'\bright\s+(?:next|behind|in\s+front|in\s+the\s+(?:middle|cent)|under|underneath|above|below|'
    r'beside|besides|by|at|on\s+top|here|there|now|before|after|up|down|across|against|angle)\b'
    r"|\b(?:all|that'?s)\s+right\b|\bleft\s+(?:over|behind|alone|out|to\s+be)\b",
)
# What a mirror changes without naming a side: counting, clocks, the compass, other languages.
_COUNTED = re.compile(r'\b(?:first|second|third|fourth|fifth|sixth|last|\d+(?:st|nd|rd|th))\b')
_OTHER = re.compile(
    r'o\W?clock|clockwise|\b(?:east|west|eastern|western|izquierd\w*|derech\w*|gauche|droite?|links|'
    r'rechts|linke\w*|rechte\w*|sinistra|destra|esquerd\w*|direit\w*)\b'
)


def exchange_sides(sentence: str) -> str | None:
    """The sentence about the mirrored picture; None where that cannot be told.

    ``left`` and ``right`` and their compounds change places, in the case they are written in.
    Not told: ``right`` that may be no side ("right behind the dog"), counting without a side
    ("the second giraffe"), clocks, the compass, and languages other than English (letters
    outside ASCII, or common words for left and right).
    """
    text = sentence.lower()
    if not text.isascii() or _ADVERB.search(text) or _OTHER.search(text):
        return None
    exchanged = _WORD.sub(_exchange, sentence)
    if _COUNTED.search(text) and exchanged == sentence:
        return None
    return exchanged


def _exchange(match: re.Match[str]) -> str:
    word = match[0]
    other = _EXCHANGED.get(word.lower())
    if other is None:
        return word
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
