"""MMEngine's checkpoints under ``weights_only=True``.

Condition: none; torch.load defaults to weights_only=True in all torch that we support
(from 2.6 on: before, reading a checkpoint could run code from it).
Reason: MMEngine's checkpoints hold HistoryBuffers and numpy scalars.
Upstream: https://github.com/open-mmlab/mmengine/issues/1655 (closed without a release).
Delete when: MMEngine registers its own safe globals.
"""

from __future__ import annotations

import functools
import pickle
from typing import Any


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


# Condition: OneDL's fork, and addresses of the network on every stack.
# Reason: the fork reads a file that was refused again with ``weights_only=False``, which runs what
# is in it; for one load it allows the real ``getattr``, and leaving that it drops our list. Files
# from http(s) are read by torch.hub, whose default is ``weights_only=False`` still.
# Upstream: ``_safe_torch_load`` of onedl-mmengine 0.10.12; ``torch.hub.load_state_dict_from_url``.
# Delete when: neither reads a pickle unasked.


def _torch_load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
    import torch

    return torch.load(file, map_location=map_location, weights_only=weights_only)


def never_read_pickles() -> None:
    """Leave it to ``torch.load``'s default, and to its own switch, whether code may run.

    That switch is ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1``.
    """
    from mmengine.runner import checkpoint

    module: Any = checkpoint
    if hasattr(module, '_safe_torch_load'):
        module._safe_torch_load = _torch_load
    if not isinstance(module.load_url, functools.partial):
        module.load_url = functools.partial(module.load_url, weights_only=None)
