"""MMEngine's start: half of its time goes into what a run does not use.

Condition: transformers and peft are installed; configs are formatted.
Reason: importing ``mmengine.optim`` imports ``transformers.Adafactor`` to register it, and with it
transformers' trainer, peft and torch._dynamo; every dump of a config, five before the first
iteration and one in every checkpoint, formats the same text anew with yapf.
Upstream: none filed.
Delete when: MMEngine registers optimizers by name, and keeps a formatted text.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterable
from typing import Any


def adafactor(params: Iterable[Any], **settings: Any) -> Any:
    """``transformers.Adafactor``, imported when a config asks for it."""
    from transformers import Adafactor

    return Adafactor(params, **settings)


def import_optim_without_transformers() -> None:
    """Import ``mmengine.optim``; what it registers as Adafactor imports transformers when built."""
    if 'mmengine.optim' in sys.modules or 'transformers' in sys.modules:
        return
    stand_in: Any = types.ModuleType('transformers')
    stand_in.Adafactor = adafactor
    sys.modules['transformers'] = stand_in
    try:
        import mmengine.optim  # noqa: F401
    finally:
        del sys.modules['transformers']


def format_configs_once() -> None:
    """Remember what yapf made of a config's text."""
    from mmengine.config import config

    module: Any = config
    original = module.FormatCode
    if hasattr(original, 'cache_info'):
        return

    @functools.lru_cache(maxsize=8)
    def remembered(text: str, style: tuple[tuple[str, Any], ...], **options: Any) -> Any:
        return original(text, style_config=dict(style), **options)

    @functools.wraps(original)
    def format_code(text: str, style_config: dict[str, Any], **options: Any) -> Any:
        return remembered(text, tuple(sorted(style_config.items())), **options)

    format_code.cache_info = remembered.cache_info  # type: ignore[attr-defined]
    module.FormatCode = format_code
