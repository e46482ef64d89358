"""Every upstream breakage in one place: condition, reason, link and "delete when".

Called once, from ``mmseg_aml/__init__.py``, before any module of mmseg is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import pickle
import re
import sys
import types
from typing import Any, NoReturn

INSTALL = 'pip install mmengine==0.10.7 mmcv-lite==2.1.0 mmsegmentation==1.2.2'

# Import name -> (lowest version, first version that is too new, the command that mends it).
SUPPORTED = {
    'torch': ('2.6', '', 'see https://pytorch.org/get-started for your CUDA version'),
    'mmengine': ('0.10.3', '1.0', INSTALL),
    'mmcv': ('2.0.0', '2.2.0', INSTALL + '  (or full mmcv: mim install "mmcv>=2.0.0,<2.2.0")'),
    'mmseg': ('1.2.0', '2.0', INSTALL),
}


def install() -> None:
    """Put all shims in place. Idempotent; nothing is patched that works by itself.

    Raises:
        ImportError: If a package is missing or outside the supported versions.
    """
    check_versions()
    allow_mmcv_lite()
    allow_mmengine_checkpoints()
    allow_mmpretrain_with_transformers5()


# --- versions ----------------------------------------------------------------
# Distributions are asked by import name, since maintained forks use other package names.


def version_tuple(version: str) -> tuple[int, ...]:
    """``'2.13.0+cpu'`` -> ``(2, 13, 0)``; ``'2.0.0rc4'`` -> ``(2, 0, 0)``."""
    numbers = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(part) for part in numbers.group().split('.')) if numbers else ()


def check_versions() -> None:
    """Compare what is installed with :data:`SUPPORTED`.

    Raises:
        ImportError: Naming the package, its version, the range and the command to run.
    """
    for name, (lowest, too_new, mend) in SUPPORTED.items():
        wanted = f'>={lowest}' + (f',<{too_new}' if too_new else '')
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise ImportError(f'mmseg_aml needs {name}{wanted}, which is missing: {mend}')
        found = _version_of(name)
        version = version_tuple(found)
        if version < version_tuple(lowest) or (too_new and version >= version_tuple(too_new)):
            raise ImportError(f'mmseg_aml needs {name}{wanted}, but {found} is installed: {mend}')


def _version_of(name: str) -> str:
    # mmseg asserts mmcv's version when it is imported; reading its version file lets the
    # clearer message above come first, whatever the order.
    spec = importlib.util.find_spec(name)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        source = importlib.machinery.PathFinder.find_spec('version', [folder])
        if source and source.origin:
            with open(source.origin, encoding='utf-8') as file:
                found = re.search(r"^__version__\b[^=]*= *['\"]([^'\"]+)", file.read(), re.M)
            if found:
                return found.group(1)
    return importlib.import_module(name).__version__


# --- mmcv-lite ---------------------------------------------------------------
# Condition: mmcv is installed without its compiled ops (mmcv-lite).
# Reason: five files of mmsegmentation import ``mmcv.ops`` for pure PyTorch functions.
# Upstream: https://github.com/open-mmlab/mmcv/issues/2059 (no fix).
# Delete when: mmsegmentation imports ``mmcv.ops`` lazily.


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


# --- checkpoints under weights_only=True -------------------------------------
# Condition: none; torch.load defaults to weights_only=True in all torch that we support
# (from 2.6 on: before, reading a checkpoint could run code from it).
# Reason: MMEngine's checkpoints hold HistoryBuffers and numpy scalars.
# Upstream: https://github.com/open-mmlab/mmengine/issues/1655 (closed without a release).
# Delete when: MMEngine registers its own safe globals.


def _restricted_getattr(owner: Any, name: str) -> Any:
    """What ``builtins.getattr`` may do in a checkpoint: name MMEngine's pickled methods."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    allowed = {
        HistoryBuffer: {'min', 'max', 'mean', 'current'},
        OneCycleParamScheduler: {'_annealing_cos', '_annealing_linear'},
    }
    if isinstance(owner, type) and name in allowed.get(owner, ()):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed in a checkpoint')


def _safe_globals() -> list[Any]:
    import numpy as np
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    reconstruct: Any = np.empty(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in '?bBhHiIlLefdU'}  # no object dtype
    names = [
        (function, f'{module}.{name}')
        for module in ('numpy.core.multiarray', 'numpy._core.multiarray')  # 1.x and 2.x
        for function, name in ((reconstruct, '_reconstruct'), (scalar, 'scalar'))
    ]
    return [
        HistoryBuffer,
        OneCycleParamScheduler,
        np.ndarray,
        np.dtype,
        *dtypes,
        *names,
        (_restricted_getattr, 'builtins.getattr'),
    ]


def allow_mmengine_checkpoints() -> None:
    """Let MMEngine's own content through ``torch.load(weights_only=True)``."""
    import torch

    torch.serialization.add_safe_globals(_safe_globals())


# --- mmpretrain beside transformers >= 4.50 ----------------------------------
# Condition: mmpretrain, pycocotools and transformers >= 4.50 are all installed.
# Reason: mmpretrain then imports multimodal code that needs functions transformers moved.
# Upstream: none filed; transformers moved the helpers to ``pytorch_utils``.
# Delete when: mmpretrain supports transformers >= 4.50.

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
