"""``import mmcv.ops`` without compiled operators.

Condition: mmcv is installed without its compiled ops (mmcv-lite).
Reason: five files of mmsegmentation import ``mmcv.ops`` for pure PyTorch functions.
Upstream: https://github.com/open-mmlab/mmcv/issues/2059 (no fix).
Delete when: mmsegmentation imports ``mmcv.ops`` lazily.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, NoReturn


def _missing_op(name: str) -> Any:
    def op(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f'the compiled mmcv op "{name}" was called, but this environment has mmcv-lite, '
            'which has no compiled ops. Install full mmcv: mim install "mmcv>=2.0.0,<2.2.0"'
        )

    op.__name__ = name
    return op


class _ExtStub(types.ModuleType):
    IS_STUB = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return _missing_op(name)


class _LastResortExtFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``mmcv._ext`` only where no other finder did: a compiled one always wins."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname == 'mmcv._ext':
            return importlib.machinery.ModuleSpec(fullname, self, origin='mmseg_aml.compat')
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _ExtStub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def allow_mmcv_lite() -> None:
    """Make ``import mmcv.ops`` work without compiled ops; calling one raises with the mend."""
    if not any(isinstance(finder, _LastResortExtFinder) for finder in sys.meta_path):
        sys.meta_path.append(_LastResortExtFinder())


def has_compiled_ops() -> bool:
    """Whether mmcv's compiled ops are really there."""
    try:
        spec = importlib.util.find_spec('mmcv._ext')
    except ModuleNotFoundError:
        return False
    return spec is not None and not isinstance(spec.loader, _LastResortExtFinder)
