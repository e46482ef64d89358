"""Which checkpoint to resume from: all ranks decide together, and read it once."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, get_rank
from mmengine.logging import print_log

from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint
from mmseg_aml.engine.summed_file import fingerprint

POINTER = 'last_checkpoint'
PAUSE = 5.0
"""Seconds between two looks at a file that a rank cannot read yet."""


class RanksDifferError(CheckpointError):
    """Some ranks cannot read what the first one reads, or read other bytes."""


def read_together(path: str | Path, patience: float) -> dict[str, Any]:
    """Read one checkpoint on every rank, and make sure that all have read the same.

    Args:
        path: A local file, or any address MMEngine reads.
        patience: Seconds to wait for ranks that do not see the file which rank 0 reads: network
            file systems show new files late.

    Raises:
        FileNotFoundError: On one rank alone, if the file is missing.
        CheckpointError: On all ranks, if rank 0 cannot read it.
        RanksDifferError: On all ranks, naming those that cannot read it or read other bytes.
    """
    checkpoint, outcome = _try_to_read(path)
    outcomes = all_gather_object(outcome)
    if len(outcomes) == 1:
        if isinstance(outcome[0], Exception):
            raise outcome[0]
        return checkpoint
    looks = int(patience / PAUSE) if PAUSE else 0
    while looks and outcomes[0][0] is None and _differing(outcomes):
        looks -= 1
        time.sleep(PAUSE)
        if outcome != outcomes[0]:
            checkpoint, outcome = _try_to_read(path)
        outcomes = all_gather_object(outcome)
    if outcomes[0][0] is not None:
        raise CheckpointError(str(outcomes[0][0]))
    ranks = _differing(outcomes)
    if ranks:
        causes = {str(outcomes[rank][0] or 'other bytes are there') for rank in ranks}
        raise RanksDifferError(
            f'rank 0 reads {path}, but rank(s) {ranks} do not ({"; ".join(sorted(causes))}). '
            'All nodes must see the same folder, by a shared disk or a copy'
        )
    return checkpoint


def _try_to_read(path: str | Path) -> tuple[Any, tuple[Exception | None, int | None]]:
    try:
        checkpoint = read_checkpoint(path)
        return checkpoint, (None, None if '://' in str(path) else fingerprint(path))
    except (CheckpointError, FileNotFoundError) as error:
        return None, (type(error)(str(error)), None)


def _differing(outcomes: list[Any]) -> list[int]:
    first = outcomes[0]
    return [
        rank for rank, seen in enumerate(outcomes) if seen[0] is not None or seen[1] != first[1]
    ]


def read_newest(folders: list[Path], patience: float) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that all ranks can read, warning about each newer one skipped.

    Args:
        folders: Where ``last_checkpoint`` and ``*.pth`` files are, the work folder first. Files
            of ``save_best`` hold no optimizer and are left out. Rank 0 makes the list.
        patience: As in :func:`read_together`.

    Raises:
        RanksDifferError: If rank 0 reads one, and no checkpoint is readable by all.
    """
    candidates = [_candidates(folders) if get_rank() == 0 else None]
    broadcast_object_list(candidates)
    refused: RanksDifferError | None = None
    for path in candidates[0] or []:
        try:
            checkpoint = read_together(path, patience)
        except (CheckpointError, FileNotFoundError) as error:
            if isinstance(error, RanksDifferError):
                refused = refused or error
            _warn(f'{error}; falling back to the checkpoint before it')
            continue
        if 'optimizer' in checkpoint and 'meta' in checkpoint:
            return path, checkpoint
        _warn(f'{path} holds weights only and cannot be resumed from; looking further')
    if refused is not None:
        raise refused
    return None


def _candidates(folders: list[Path]) -> list[Path]:
    """``last_checkpoint``'s file, then all others from the newest to the oldest."""
    files = {
        path.resolve(): path.stat().st_mtime_ns
        for folder in folders
        for path in folder.glob('*.pth')
        if not path.name.startswith('best_')
    }
    ordered = sorted(files, key=lambda path: files[path], reverse=True)
    pointed = _pointed(folders)
    return ordered if pointed is None else [pointed, *(p for p in ordered if p != pointed)]


def _pointed(folders: list[Path]) -> Path | None:
    pointer = folders[0] / POINTER
    if not pointer.is_file():
        return None
    name = pointer.read_text(encoding='utf-8').strip()
    # The folder may have been moved since: then the file's name in it is what counts.
    options = [Path(name), *(folder / Path(name).name for folder in folders)] if name else []
    return next((path.resolve() for path in options if path.is_file()), None)


def _warn(text: str) -> None:
    print_log(text, logger='current', level=logging.WARNING)
