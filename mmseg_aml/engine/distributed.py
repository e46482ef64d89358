"""Distributed training where MMEngine expects CUDA: process groups and DDP on any device."""

from __future__ import annotations

import atexit
import os
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mmseg_aml.registry import MODEL_WRAPPERS

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def slurm_environment() -> None:
    """Say RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT in PyTorch's words.

    The port follows the job's number, so that jobs which share a node do not meet.

    Raises:
        RuntimeError: Outside a Slurm step.
    """
    env = os.environ
    if 'SLURM_PROCID' not in env:
        raise RuntimeError(
            'launcher "slurm" needs the variables that srun sets (SLURM_PROCID, ...): start '
            'with tools/slurm_train.sh, or use --launcher none'
        )
    env.update(
        RANK=env['SLURM_PROCID'],
        WORLD_SIZE=env['SLURM_NTASKS'],
        LOCAL_RANK=env.get('SLURM_LOCALID', '0'),
    )
    env.setdefault('MASTER_PORT', str(20000 + int(env.get('SLURM_JOB_ID', '0')) % 20000))
    if 'MASTER_ADDR' not in env:
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']], text=True
        )
        env['MASTER_ADDR'] = hosts.split()[0]


def mpi_environment() -> None:
    """The same from Open MPI's variables.

    Raises:
        RuntimeError: Outside ``mpirun``.
    """
    env = os.environ
    if 'OMPI_COMM_WORLD_RANK' not in env:
        raise RuntimeError('launcher "mpi" needs the variables that Open MPI\'s mpirun sets')
    env.update(
        RANK=env['OMPI_COMM_WORLD_RANK'],
        WORLD_SIZE=env['OMPI_COMM_WORLD_SIZE'],
        LOCAL_RANK=env['OMPI_COMM_WORLD_LOCAL_RANK'],
    )
    env.setdefault('MASTER_ADDR', '127.0.0.1')
    env.setdefault('MASTER_PORT', '29500')


def prepare_launcher(launcher: str, timeout: float | None = None) -> None:
    """Set up what MMEngine's ``launcher`` needs; call it before the Runner is built.

    Without CUDA this makes the gloo process group, which MMEngine then leaves alone; its own
    set-up calls ``torch.cuda.set_device``. With CUDA MMEngine makes the group.

    Args:
        launcher: One of :data:`LAUNCHERS`.
        timeout: Seconds (None: PyTorch's 1800) that a process waits for one that is gone without
            a word; with CUDA MMEngine reads it from the config (``env_cfg.dist_cfg.timeout``).

    Raises:
        ValueError: If the launcher is unknown.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f'launcher {launcher!r} is not one of {LAUNCHERS}')
    if launcher == 'none':
        return
    if launcher == 'slurm':
        slurm_environment()
    if torch.cuda.is_available() or dist.is_initialized():
        return
    if launcher == 'mpi':
        mpi_environment()
    limit = None if timeout is None else timedelta(seconds=timeout)
    dist.init_process_group('gloo', timeout=limit)
    # gloo's thread gives back the tensors of the last collective under Python's lock. A process
    # that ends before that is aborted after all its work (one in five did): let it finish.
    atexit.register(time.sleep, 0.5)


def timeout_of(config: Config) -> float | None:
    """``env_cfg.dist_cfg.timeout`` of a config, in seconds."""
    return ((config.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')


@MODEL_WRAPPERS.register_module()
class AnyDeviceDDP(MMDistributedDataParallel):
    """MMEngine's DDP, which gives up ``device_ids`` for a module on the CPU.

    Args:
        module: The model.
        device_ids: The one GPU of this process; ignored for a CPU model.
        broadcast_buffers: Whether buffers of rank 0 replace the others' in each forward pass.
        find_unused_parameters: Search for parameters without gradient. Nothing in this package
            needs it.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device_ids: Sequence[int] | None = None,
        broadcast_buffers: bool = False,
        find_unused_parameters: bool = False,
        **ddp_arguments: Any,
    ) -> None:
        on_cpu = all(parameter.device.type == 'cpu' for parameter in module.parameters())
        super().__init__(
            module,
            device_ids=None if on_cpu else device_ids,
            broadcast_buffers=broadcast_buffers,
            find_unused_parameters=find_unused_parameters,
            **ddp_arguments,
        )
