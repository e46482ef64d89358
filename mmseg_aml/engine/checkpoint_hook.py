"""Checkpoints that survive kills, full disks and corrupt files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmseg_aml.engine.atomic_files import ATOMIC_BACKEND, write_atomically
from mmseg_aml.engine.checkpoints import (
    POINTER,
    check_fits,
    latest_good_checkpoint,
    read_checkpoint,
)
from mmseg_aml.registry import HOOKS


class _LaterRemoval:
    """A file backend that keeps removals for later; everything else is passed on."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.paths: list[str] = []

    def remove(self, path: str) -> None:
        self.paths.append(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with a safe order: write the new file, then remove old ones.

    * Files are written atomically (:mod:`~mmseg_aml.engine.atomic_files`); ``last_checkpoint``
      follows after the file it names. A full disk stops the run with an error and leaves the
      checkpoints that were there.
    * Resuming without a file's name takes the newest *readable* checkpoint of the work folder and
      warns about each one skipped; without any, training starts from the beginning, with a
      warning.
    * A checkpoint to resume from must fit the model: MMEngine would load what fits.

    Arguments are those of MMEngine's hook. Remote folders (``out_dir='s3://...'``) keep
    MMEngine's own backends, whose uploads are atomic by themselves.
    """

    def before_run(self, runner: Runner) -> None:
        """Choose the file to resume from, before the Runner looks for one.

        Raises:
            CheckpointError: If a file that was named cannot be read.
        """
        if not runner._resume:
            return
        if runner._load_from is not None:
            read_checkpoint(runner._load_from)
            return
        found = latest_good_checkpoint(self._folders(runner))
        runner._resume = found is not None
        runner._load_from = str(found) if found else None
        if found is None:
            runner.logger.warning(
                f'resume: no checkpoint in {runner.work_dir}, training starts from the beginning'
            )

    def _folders(self, runner: Runner) -> list[Path]:
        work_dir = Path(runner.work_dir)
        if self.out_dir is None or '://' in str(self.out_dir):
            return [work_dir]
        return [work_dir, Path(self.out_dir) / work_dir.name]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """When resuming, refuse a checkpoint of another architecture.

        Raises:
            CheckpointError: Listing the keys.
        """
        if runner._resume:
            model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
            check_fits(model, checkpoint, runner._load_from or 'the checkpoint', resume=True)

    def before_train(self, runner: Runner) -> None:
        """Switch local files to the atomic backend."""
        remote = '://' in str(self.out_dir or runner.work_dir)
        if not remote and self.backend_args is None and self.file_client_args is None:
            self.backend_args = {'backend': ATOMIC_BACKEND}
        super().before_train(runner)

    def save_now(self, runner: Runner, filename: str) -> None:
        """Write a checkpoint of the iteration that just ended, outside the schedule.

        Args:
            runner: In ``after_train_iter``.
            filename: Replaced if it is there; not counted by ``max_keep_ckpts``.
        """
        meta = {'epoch': runner.epoch, 'iter': runner.iter + 1}
        self._write(runner, filename, meta)

    def _write(self, runner: Runner, filename: str, meta: dict) -> None:
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_atomically(Path(runner.work_dir) / POINTER, str(self.last_ckpt).encode())

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """MMEngine's method, which removes the oldest checkpoint before it writes the newest."""
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            kept = [known for known in self.keep_ckpt_ids if known != step] + [step]
            outdated, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        self._write(runner, self.filename_tmpl.format(step), meta)
        names = (self.filename_tmpl.format(old) for old in outdated)
        self._remove(self.file_backend.join_path(self.out_dir, name) for name in names)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """MMEngine's method, which removes the old best before it writes the new one.

        Raises:
            KeyError: If ``save_best`` names a metric that the evaluator does not report.
        """
        if not self.save_best:
            return
        absent = [key for key in self.key_indicators if key != 'auto' and key not in metrics]
        if absent:
            raise KeyError(f'save_best={absent} is not among the metrics {sorted(metrics)}')
        backend, later = self.file_backend, _LaterRemoval(self.file_backend)
        self.file_backend = later
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', {None: getattr(self, 'best_ckpt_path', None)})
        self._remove(path for path in later.paths if path not in best.values())

    def _remove(self, paths: Iterable[str]) -> None:
        if not is_main_process():
            return
        for path in paths:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
