"""Checkpoints that survive kills, full disks and corrupt files."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmseg_aml.engine import rank_state
from mmseg_aml.engine.atomic_files import write_atomically
from mmseg_aml.engine.checkpoints import (
    CheckpointError,
    bare_model,
    check_fits,
    hand_over,
    is_handed,
)
from mmseg_aml.engine.resume_choice import POINTER, read_newest, read_together
from mmseg_aml.engine.saving import save_checkpoint
from mmseg_aml.registry import HOOKS

VALIDATED = 'validated_iter'
"""Key in the message hub: the iterations done when the last validation ended."""


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

    * Files are written atomically (:mod:`~mmseg_aml.engine.atomic_files`) and without a copy in
      memory; ``last_checkpoint`` follows after the file it names. A full disk stops all ranks
      with an error and leaves the checkpoints that were there.
    * Resuming without a file's name takes the newest checkpoint of the work folder that *all
      ranks* read, and warns about each one skipped; without any, training starts from the
      beginning, with a warning. Every rank reads a file once, checksums included.
    * A checkpoint to resume or load from must fit the model: MMEngine would load what fits.
    * Gradients of an accumulation window that a checkpoint cuts are in the checkpoint, and so
      are the running statistics of each rank, where they differ.
    * Validating or testing without training saves nothing.

    Arguments are those of MMEngine's hook, and two more. Remote folders (``out_dir='s3://...'``)
    keep MMEngine's own way of writing, whose uploads are atomic by themselves.

    Args:
        load_partly: Whether ``load_from`` may fit the model in part.
        patience: Seconds that other ranks have to see a file that rank 0 reads, before the
            checkpoint before it is taken.
    """

    def __init__(
        self, *args: Any, load_partly: bool = False, patience: float = 60.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.load_partly = load_partly
        self.patience = patience
        self.saved_iter: int | None = None
        self._training = False
        self._rank_state: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Read the file to load or resume from, before the Runner looks for one.

        Raises:
            FileNotFoundError: If a file that was named is missing.
            CheckpointError: If it cannot be read, or does not fit.
        """
        source = runner._load_from
        if runner._has_loaded or is_handed(source) or not (source or runner._resume):
            return
        if source is not None:
            checkpoint = read_together(source, self.patience)
        else:
            found = read_newest(self._folders(runner), self.patience)
            if found is None:
                runner._resume = False
                runner.logger.warning(
                    f'resume: no checkpoint in {runner.work_dir}, training starts from the '
                    'beginning'
                )
                return
            source, checkpoint = found
        self._check_fits(runner, checkpoint, source)
        hand_over(runner, source, checkpoint)

    def _check_fits(self, runner: Runner, checkpoint: dict, source: Any) -> None:
        if self.load_partly and not runner._resume:
            return
        try:
            check_fits(bare_model(runner), checkpoint, source, resume=runner._resume)
        except CheckpointError as error:
            if runner._resume:
                raise
            raise CheckpointError(
                f'load_from: {error}. To load what fits, set '
                'default_hooks.checkpoint.load_partly=True'
            ) from error

    def _folders(self, runner: Runner) -> list[Path]:
        work_dir = Path(runner.work_dir)
        if self.out_dir is None or '://' in str(self.out_dir):
            return [work_dir]
        return [work_dir, Path(self.out_dir) / work_dir.name]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what is for :func:`~mmseg_aml.engine.rank_state.put_back`."""
        for key in (rank_state.GRADIENTS, rank_state.BUFFERS):
            value = checkpoint.pop(key, None)
            if runner._resume and value is not None:
                self._rank_state[key] = value

    def before_train(self, runner: Runner) -> None:
        """Write local files by :func:`~mmseg_aml.engine.saving.save_checkpoint`."""
        remote = '://' in str(self.out_dir or runner.work_dir)
        if not remote and self.backend_args is None and self.file_client_args is None:
            replaced: Any = runner
            replaced.save_checkpoint = partial(save_checkpoint, runner)
        super().before_train(runner)
        self._training = True
        rank_state.put_back(runner, self._rank_state)
        if rank_state.GRADIENTS in self._rank_state:
            runner.logger.warning('the gradients of the unfinished accumulation were restored')
        self._rank_state = {}

    def after_train(self, runner: Runner) -> None:
        """Publish, and save no more."""
        self._training = False
        super().after_train(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what :func:`~mmseg_aml.engine.rank_state.rank_state` has found."""
        checkpoint.update(self._rank_state)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Save the best checkpoint, if this is a training."""
        if self._training:
            runner.message_hub.update_info(VALIDATED, runner.iter)
            super().after_val_epoch(runner, metrics or {})

    def save_now(self, runner: Runner, filename: str, meta: dict[str, int]) -> None:
        """Write a checkpoint outside the schedule.

        Args:
            runner: On all ranks.
            filename: Replaced if it is there; not counted by ``max_keep_ckpts``.
            meta: ``epoch`` and ``iter``, the numbers of finished ones.
        """
        self._write(runner, filename, meta)

    def _write(self, runner: Runner, filename: str, meta: dict) -> None:
        """Write on rank 0, and let no rank go on before it is done.

        Raises:
            OSError: On all ranks.
        """
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        problem: OSError | None = None
        self._rank_state = rank_state.rank_state(runner)
        try:
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
        except OSError as error:
            problem = error
        finally:
            self._rank_state = {}
        problems = [str(problem) if problem else None]
        broadcast_object_list(problems)
        if problem is not None:
            raise problem
        if problems[0]:
            raise OSError(f'rank 0: {problems[0]}')
        self.saved_iter = meta['iter']

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
