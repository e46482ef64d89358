"""Transforms of an item; imported to register them."""

from . import corruptions, formatting, loading, resize  # noqa: F401
