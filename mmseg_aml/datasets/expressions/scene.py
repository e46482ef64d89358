"""What the logic needs to know of a scene: things with a place and a size, and descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Thing(Protocol):
    """One object. ``id`` is the same in all readings of a scene."""

    @property
    def id(self) -> int: ...

    @property
    def x(self) -> float:
        """Centre in pixels, from the left."""
        ...

    @property
    def y(self) -> float:
        """Centre in pixels, from the top."""
        ...

    @property
    def bulk(self) -> float:
        """How large it looks, on a scale on which the margin of places separates sizes too."""
        ...

    @property
    def joined(self) -> frozenset[int]:
        """Ids of the things that it touches: what it sits on or holds, and the reverse."""
        ...

    def gap(self, other: Any) -> float:
        """Distance in pixels from the centre of ``other`` to the nearest edge of this thing, or
        from edge to edge; only differences between things of one scene count."""
        ...


class Scene(Protocol):
    """All things of one picture of ``width`` x ``height`` pixels, as somebody may read it."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def side(self) -> int:
        """The shorter side in pixels, the unit of all margins."""
        ...

    @property
    def things(self) -> Sequence[Any]:
        """The :class:`Thing`s."""
        ...


class Description(Protocol):
    """The leaf of every form: what a thing is, without comparing it to others."""

    def fits(self, thing: Any) -> bool:
        """Whether it is true of ``thing``."""
        ...
