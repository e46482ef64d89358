"""Float32 products: exact as they come, or fast.

On a CPU, fast means the faster library where it is as exact. PyTorch multiplies float32 matrices
with MKL, which on AMD's cores with AVX-512 runs at half of what oneDNN makes of them
(docs/performance.md); ``torch.set_float32_matmul_precision('medium')`` is how to ask for oneDNN.
The name promises less precision, and where a CPU has AMX it may come to that: so the result is
measured first. On a GPU, fast means TF32: ten bits of the fraction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

CHOICES = ('exact', 'fast')


@contextmanager
def float32_products(choice: str, device: torch.device) -> Iterator[None]:
    """``'fast'``: TF32 on a GPU, oneDNN on a CPU that gains by it and rounds no worse.

    Elsewhere nothing changes; ``'exact'`` changes nothing anywhere.

    Raises:
        ValueError: Neither.
    """
    if choice not in CHOICES:
        raise ValueError(f'float32 products are one of {CHOICES}, got {choice!r}')
    before = torch.get_float32_matmul_precision()
    if choice == 'fast' and device.type == 'cuda':
        torch.set_float32_matmul_precision('high')
    elif choice == 'fast' and device.type == 'cpu' and onednn_is_better():
        torch.set_float32_matmul_precision('medium')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@lru_cache(maxsize=1)
def onednn_is_better() -> bool:
    """On AMD's CPUs with AVX-512 and without AMX, if :func:`rounding` agrees."""
    capable = torch.backends.cpu.get_cpu_capability().startswith('AVX512')
    if not capable or 'amx_tile' in cpu_info() or 'AuthenticAMD' not in cpu_info():
        return False
    return rounding('medium') <= 4 * rounding('highest')


def cpu_info() -> str:
    """The kernel's description of the first CPU; '' where there is none."""
    path = Path('/proc/cpuinfo')
    return path.read_text(encoding='utf-8').split('\n\n')[0] if path.is_file() else ''


def rounding(precision: str) -> float:
    """Error of a float32 product under a precision of PyTorch's, relative to the largest value."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(*size, generator=generator) for size in ((128, 512), (512, 128)))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        product = a @ b
    finally:
        torch.set_float32_matmul_precision(before)
    true = a.double() @ b.double()
    return float((product - true).abs().max() / true.abs().max())
