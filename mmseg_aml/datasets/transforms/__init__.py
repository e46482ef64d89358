"""Transforms of an item; imported to register them."""

from . import corruptions, formatting, letterbox, loading, resize, window  # noqa: F401
