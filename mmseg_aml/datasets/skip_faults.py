"""Training on although some files cannot be read: counted, logged, limited."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..registry import DATASETS
from .refer_files import ReferError


@DATASETS.register_module()
class SkipFaults(Dataset):
    """Leaves out items of a training set that cannot be read; without it they stop the run.

    ``dataset=dict(type='mmseg_aml.SkipFaults', dataset=dict(...))``

    The place of a faulty item is taken by the next one that can be read, so that batches keep
    their size on all ranks. Each fault is logged as a warning and kept; ``DataFaultHook``
    reports them at the end of the training. Only what says that *data* are at fault is caught:
    ``OSError`` and ``ReferError``, never a mistake in code or config.

    Args:
        dataset: The training set.
        limit: The run stops when more different items than this are faulty (per rank).

    Raises:
        ValueError: For a set in test mode: results would be of other data than they say.
    """

    def __init__(self, dataset: dict[str, Any] | Dataset, limit: int = 100) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if getattr(self.dataset, 'test_mode', False):
            raise ValueError('SkipFaults is for training: a test must not leave out what it reads')
        if limit < 1:
            raise ValueError(f'limit must be at least 1, got {limit}')
        self.limit = limit
        # Workers are processes of their own: short lines appended to one file reach them all.
        handle, name = tempfile.mkstemp(prefix='mmseg_aml_faults_', suffix='.jsonl')
        os.close(handle)
        self._file = Path(name)
        self._owner = os.getpid()
        weakref.finalize(self, _remove, self._file, self._owner)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int) -> Any:
        visit, item = divmod(index, len(self))
        for step in range(len(self)):
            candidate = (item + step) % len(self)
            try:
                return self.dataset[visit * len(self) + candidate]
            except (OSError, ReferError) as error:
                self._note(candidate, error)
        raise ReferError(f'none of the {len(self)} items can be read')

    def faults(self) -> dict[int, str]:
        """Item -> message, of all faults met so far by this process and its workers."""
        lines = self._file.read_text(encoding='utf-8').splitlines()
        return {record['item']: record['error'] for record in map(json.loads, lines)}

    def _note(self, item: int, error: Exception) -> None:
        if item not in self.faults():
            record = json.dumps({'item': item, 'error': str(error)})
            with open(self._file, 'a', encoding='utf-8') as file:
                file.write(record + '\n')
            text = f'item {item} is left out, the next one takes its place: {error}'
            print_log(text, logger='current', level=logging.WARNING)
        found = len(self.faults())
        if found > self.limit:
            raise RuntimeError(
                f'{found} of {len(self)} items are faulty, more than limit={self.limit}; the last: '
                f'{error}'
            ) from error


def _remove(file: Path, owner: int) -> None:
    if os.getpid() == owner:  # not when a worker ends
        file.unlink(missing_ok=True)
