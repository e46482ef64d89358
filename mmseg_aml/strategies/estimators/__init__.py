"""Alignment estimators beside the paper's: one that learns, and the bounds of all."""

from . import bounds, learned  # noqa: F401  registers
