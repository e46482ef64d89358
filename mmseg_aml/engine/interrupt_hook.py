"""SIGTERM (a scheduler's notice): end the iteration, save, leave."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_aml.engine.checkpoint_hook import AtomicCheckpointHook
from mmseg_aml.registry import HOOKS

INTERRUPTED = 'interrupted.pth'
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class _DeafWorker:
    """A ``worker_init_fn`` that also makes the worker ignore SIGTERM.

    Schedulers signal every process of a job; a data loader worker that died of it would tear
    the training process down before it has saved. The parent ends its workers itself.
    """

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then = then

    def __call__(self, worker_id: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.then is not None:
            self.then(worker_id)


def _loaders_with_workers(runner: Runner) -> list[Any]:
    loaders: list[Any] = [
        getattr(loop, 'dataloader', None) for loop in (runner.train_loop, runner.val_loop)
    ]
    return [loader for loader in loaders if loader is not None and loader.num_workers]


def _end_workers(runner: Runner) -> None:
    """End persistent workers now: the garbage collector would wait ten seconds for each loader."""
    for loader in _loaders_with_workers(runner):
        iterator = getattr(loader, '_iterator', None)
        if iterator is not None:
            iterator._shutdown_workers()
            loader._iterator = None


def _kill_workers() -> None:
    """Before multiprocessing waits for workers that no longer hear SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


@HOOKS.register_module()
class InterruptHook(Hook):
    """On SIGTERM or SIGUSR1: finish the iteration, save ``interrupted.pth``, exit with 143.

    Needs :class:`AtomicCheckpointHook`; ``--resume`` goes on from there (exactly, with
    :class:`ExactResumeHook`). More signals change nothing: a scheduler and torchrun both send one.

    Args:
        interval: Iterations between the questions whether any rank was told to stop; with one
            process each iteration is looked at. Gradient accumulation is always completed.
    """

    priority = 'LOWEST'
    EXIT_CODE = 128 + signal.SIGTERM

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval
        self.stop = False
        self._previous: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the handlers, and make data loader workers deaf to SIGTERM."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may handle signals
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._on_signal)
        for loader in _loaders_with_workers(runner):
            loader.worker_init_fn = _DeafWorker(loader.worker_init_fn)
            atexit.register(_kill_workers)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back and end the workers."""
        self._restore()
        _end_workers(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and leave if any rank was told to.

        Raises:
            SystemExit: With code 143, after the checkpoint is written.
        """
        if not self._any_rank_stops(runner):
            return
        self._restore()
        saver = next((h for h in runner.hooks if isinstance(h, AtomicCheckpointHook)), None)
        if saver is None:
            runner.logger.error('told to stop; without mmseg_aml.AtomicCheckpointHook unsaved')
        else:
            saver.save_now(runner, INTERRUPTED)
            runner.logger.warning(
                f'told to stop: saved {saver.last_ckpt} after iteration {runner.iter + 1}; '
                'go on with --resume'
            )
        _end_workers(runner)
        raise SystemExit(self.EXIT_CODE)

    def _any_rank_stops(self, runner: Runner) -> bool:
        if not _accumulation_is_complete(runner):
            return False
        if get_world_size() == 1:
            return self.stop
        if (runner.iter + 1) % self.interval:
            return False
        device = next(runner.model.parameters()).device
        flag = torch.tensor(int(self.stop), device=device)
        all_reduce(flag, op='max')
        return bool(flag.item())

    def _on_signal(self, number: int, frame: Any) -> None:
        self.stop = True

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


def _accumulation_is_complete(runner: Runner) -> bool:
    return (runner.iter + 1) % getattr(runner.optim_wrapper, '_accumulative_counts', 1) == 0
