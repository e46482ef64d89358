"""mmpretrain beside transformers >= 4.50.

Condition: mmpretrain, pycocotools and transformers >= 4.50 are all installed.
Reason: mmpretrain then imports multimodal code that needs functions transformers moved.
Upstream: none filed; transformers moved the helpers to ``pytorch_utils``.
Delete when: mmpretrain supports transformers >= 4.50.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import types
from typing import Any

from .versions import version_tuple

_SWITCH = 'mmpretrain.utils.dependency'


class _MultimodalOffLoader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        super().exec_module(module)
        module.WITH_MULTIMODAL = False  # pyright: ignore[reportAttributeAccessIssue]


class _MultimodalOffFinder(importlib.abc.MetaPathFinder):
    """Acts only if someone imports mmpretrain: importing it here would need torchvision."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != _SWITCH:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return None
        loader = _MultimodalOffLoader(fullname, found.origin)
        return importlib.util.spec_from_file_location(fullname, found.origin, loader=loader)


def allow_mmpretrain_with_transformers5() -> None:
    """Switch off mmpretrain's multimodal part, which this package never uses."""
    try:
        broken = version_tuple(importlib.metadata.version('transformers')) >= (4, 50)
    except importlib.metadata.PackageNotFoundError:
        return
    if not broken:
        return
    if _SWITCH in sys.modules:
        sys.modules[_SWITCH].WITH_MULTIMODAL = False  # pyright: ignore[reportAttributeAccessIssue]
    elif not any(isinstance(finder, _MultimodalOffFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MultimodalOffFinder())
