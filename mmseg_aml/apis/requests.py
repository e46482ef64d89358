"""Images and expressions, as a caller groups them -> one record per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Request(NamedTuple):
    """Sentences about one image, which is whatever :func:`.images.read_image` reads."""

    image: Any
    expressions: list[str]


Nest = Callable[[list[list[Any]]], Any]


def as_requests(images: Any, expressions: Any) -> tuple[list[Request], Nest]:
    """One request per image, and what brings the results into the caller's grouping.

    Raises:
        TypeError: Expressions that are no sentences.
        ValueError: None, an empty one, or another number of them than of images.
    """
    if not isinstance(images, (list, tuple)):
        request = Request(images, sentences(expressions))
        alone = isinstance(expressions, str)
        return [request], lambda found: found[0][0] if alone else found[0]
    if isinstance(expressions, str):
        per_image: Sequence[Any] = [expressions] * len(images)
    elif isinstance(expressions, (list, tuple)) and len(expressions) == len(images):
        per_image = expressions
    elif isinstance(expressions, (list, tuple)):
        raise ValueError(
            f'{len(images)} images and {len(expressions)} expressions: give one sentence about all '
            'images, or for every image a sentence or a list of sentences'
        )
    else:
        sentences(expressions)  # raises
        raise AssertionError
    requests = [Request(image, sentences(part)) for image, part in zip(images, per_image)]
    alone_in = [isinstance(part, str) for part in per_image]
    return requests, lambda found: [
        part[0] if alone else part for part, alone in zip(found, alone_in)
    ]


def sentences(expressions: Any) -> list[str]:
    """One sentence or several as a list, checked."""
    if isinstance(expressions, str):
        found: list[Any] = [expressions]
    elif isinstance(expressions, (list, tuple)):
        found = list(expressions)
    else:
        raise TypeError(
            f'an expression is a sentence (str) or a list of them, got '
            f'{type(expressions).__name__} {expressions!r:.60}'
        )
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f'an expression is a sentence (str), got {type(one).__name__} {one!r}')
    if not found or not all(one.strip() for one in found):
        raise ValueError(f'need at least one expression and none empty, got {expressions!r:.200}')
    return found
