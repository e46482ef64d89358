"""SIGTERM (a scheduler's notice): end the iteration, save, leave; all ranks together."""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
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

    In a validation the iteration of the validation is finished, and nothing is written if the
    checkpoint of this moment is there already; a resumed run validates again. One process saves
    the gradients of an unfinished accumulation too, several finish it.

    All ranks leave together, after the file is whole. From the first notice on more signals
    change nothing, until the process has ended: a scheduler and torchrun send several, and
    torchrun signals all ranks as soon as one has left.

    Needs :class:`AtomicCheckpointHook`; ``--resume`` goes on from there (exactly, with
    :class:`ExactResumeHook`).

    Args:
        interval: Iterations between the questions whether any rank was told to stop; with one
            process each iteration is looked at.
    """

    priority = 'LOWEST'
    EXIT_CODE = 128 + signal.SIGTERM

    def __init__(self, interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval
        self.stop = False
        self._val_batches = 0
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
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        _end_workers(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and leave if any rank was told to.

        Raises:
            SystemExit: With code 143, after the checkpoint is written.
        """
        # A window of accumulation is finished: ranks sum up each for itself, and only a sum that
        # the undisturbed run also averages in the middle would go on bit for bit.
        window = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if self._any_rank_stops(runner, runner.iter + 1, window):
            self._leave(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Agree on how often to ask: a rank may have fewer batches than another."""
        batches = len(runner.val_dataloader) if self._previous else 0
        self._val_batches = min(all_gather_object(batches))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Leave a validation that is part of a training.

        Raises:
            SystemExit: With code 143, after the checkpoint is written.
        """
        if batch_idx >= self._val_batches or not self._any_rank_stops(runner, batch_idx + 1):
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                hook.after_val_epoch(runner)  # gives the model its own weights back
        self._leave(runner, runner.iter)

    def _any_rank_stops(self, runner: Runner, count: int, window: int = 1) -> bool:
        if get_world_size() == 1:
            return self.stop
        if count % window or count // self.interval == (count - window) // self.interval:
            return False
        device = next(runner.model.parameters()).device
        flag = torch.tensor(int(self.stop), device=device)
        all_reduce(flag, op='max')
        return bool(flag.item())

    def _leave(self, runner: Runner, iteration: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        saver = next((h for h in runner.hooks if isinstance(h, AtomicCheckpointHook)), None)
        if saver is None:
            runner.logger.error('told to stop; without mmseg_aml.AtomicCheckpointHook unsaved')
        else:
            if saver.saved_iter != iteration:
                saver.save_now(runner, INTERRUPTED, {'epoch': runner.epoch, 'iter': iteration})
            runner.logger.warning(
                f'told to stop: {saver.last_ckpt} holds the training after iteration '
                f'{iteration}; go on with --resume'
            )
        barrier()  # torchrun ends the other ranks when the first has left
        _end_workers(runner)
        raise SystemExit(self.EXIT_CODE)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.stop = True
