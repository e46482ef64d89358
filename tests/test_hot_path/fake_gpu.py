"""A GPU made of CPU tensors, which counts what waits for it.

Tensors of the device ``privateuseone`` hold a CPU tensor that nothing can read but through the
dispatcher. So the code under test runs as on a GPU: it crashes where tensors of two devices meet,
and whatever makes the host wait is seen and noted with the line that asked for it. To be used in a
process of its own: PyTorch takes a backend in once, before the first backward pass.
"""

from __future__ import annotations

import collections
import traceback
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

aten = torch.ops.aten
DEVICE = torch.device('privateuseone:0')  # called fakegpu once it is known
# The size of what they give depends on values: the host has to wait for it.
SIZED_BY_VALUES = {
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.repeat_interleave,  # with a tensor of counts
    aten._local_scalar_dense,
    aten.equal,
}


INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def start() -> None:
    """Make the device known to PyTorch."""
    _setup_privateuseone_for_python_backend('fakegpu', backend_module=_Backend())


class DeviceTensor(Tensor):
    """A tensor on the device, whose values are ``host``'s."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> DeviceTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        tensor.host = host
        return tensor

    def tolist(self) -> Any:
        _note('tolist')
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


class Counter(TorchDispatchMode):
    """What makes the host wait while it is on: ``found``, a count per kind and place."""

    active: Counter | None = None

    def __init__(self) -> None:
        super().__init__()
        self.found: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Counter:
        Counter.active = self
        # torch.tensor(..., device=...) then copies where it is seen
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        Counter.active = None
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        return run(func, args, kwargs or {})


_pinned: set[int] = set()  # addresses; those of one step are few and stay


def pin(host: Tensor) -> Tensor:
    """What a data loader with ``pin_memory`` hands over."""
    _pinned.add(host.untyped_storage().data_ptr())
    return host


def to_device(module: nn.Module) -> None:
    """Moves parameters and buffers."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = nn.Parameter(DeviceTensor(parameter.data), parameter.requires_grad)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = DeviceTensor(buffer)


def _note(what: str) -> None:
    if Counter.active is not None:
        Counter.active.found[f'{what} at {_place()}'] += 1


def _place() -> str:
    frames = [f for f in traceback.extract_stack() if f.filename != __file__]
    known = [f for f in frames if '/torch/' not in f.filename] or frames
    frame = known[-1]
    return f'{"/".join(frame.filename.split("/")[-2:])}:{frame.lineno} {frame.name}'


def run(func: Any, args: tuple, kwargs: dict) -> Any:
    """One operation, of the device's or the host's tensors."""
    packet = func.overloadpacket
    flat = tree_flatten((args, kwargs))[0]
    on_device = [value for value in flat if isinstance(value, DeviceTensor)]
    on_host = [v for v in flat if isinstance(v, Tensor) and not isinstance(v, DeviceTensor)]
    if packet in (aten.is_pinned, aten.pin_memory, aten._pin_memory):
        return pin(args[0].clone()) if packet is not aten.is_pinned else False
    device = kwargs.get('device')
    goes_to_device = device is not None and torch.device(device) == DEVICE
    _look(packet, args, kwargs, on_device, on_host, goes_to_device)
    host_args, host_kwargs = tree_map_only(DeviceTensor, lambda t: t.host, (args, kwargs))
    if device is not None:
        host_kwargs['device'] = 'cpu'
    if host_kwargs.get('pin_memory'):
        host_kwargs['pin_memory'] = False
    output = func(*host_args, **host_kwargs)
    if kwargs.get('pin_memory'):
        pin(output)
    to_host = device is not None and not goes_to_device
    if (on_device and not to_host) or goes_to_device:
        output = tree_map_only(Tensor, DeviceTensor, output)
        if packet is not aten._to_copy and on_device:
            return return_and_correct_aliasing(func, args, kwargs, output)
    return output


def _look(
    packet: Any,
    args: tuple,
    kwargs: dict,
    on_device: list[Any],
    on_host: list[Tensor],
    goes_to_device: bool,
) -> None:
    if packet is aten._to_copy and not on_device:
        if goes_to_device and not (kwargs.get('non_blocking') and _is_pinned(args[0])):
            _note('copy to the device')
    elif packet is aten._to_copy:
        if kwargs.get('device') is not None and not goes_to_device:
            _note('copy to the host')
    elif packet is aten.copy_:
        crosses = isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor)
        if crosses:
            _note('copy between devices')
    elif on_device and packet in SIZED_BY_VALUES:
        _note(str(packet).split('.')[-1].lstrip('_'))
    elif on_device and packet in (
        aten.index,
        aten.index_put,
        aten.index_put_,
        aten._index_put_impl_,
    ):
        _look_at_indices(packet, args)
    elif on_device and any(t.ndim for t in on_host):
        shapes = [tuple(t.shape) for t in on_host]
        raise RuntimeError(f'{packet}: tensors of the host {shapes} among those of the device')


def _look_at_indices(packet: Any, args: tuple) -> None:
    indices = [index for index in args[1] if index is not None]
    if any(not isinstance(index, DeviceTensor) for index in indices):
        _note('index from the host')
    by_mask = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    if by_mask and (packet is aten.index or args[2].numel() > 1):
        _note('boolean index')


def _is_pinned(host: Tensor) -> bool:
    return host.untyped_storage().data_ptr() in _pinned
