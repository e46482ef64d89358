"""RefShapes in other languages: the same logical forms, each language's own wording."""

from __future__ import annotations

import random
from collections.abc import Callable

from ...expressions.logic import Form
from . import chinese, korean
from .modifiers_first import realise

Realise = Callable[[Form, random.Random], str]

OTHERS: dict[str, Realise] = {
    'ko': lambda form, rng: realise(form, rng, korean.TABLES),
    'zh': lambda form, rng: realise(form, rng, chinese.TABLES),
}
"""Beside English, which is :mod:`mmseg_aml.datasets.ref_shapes.language`."""
