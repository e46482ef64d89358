"""The models that the page offers, each loaded when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmseg_aml.apis import RISInferencer
from mmseg_aml.apis.inferencer import find_config

ROOT = Path(__file__).resolve().parents[1]
DEMO = 'aml_vipa_r18-mini_2xb4-4e_ref-shapes-96x96'


class ModelError(ValueError):
    """A model that is not there; says how to name one."""


def demo_model(root: Path = ROOT) -> list[str]:
    """Config and checkpoint of the last ``make demo``.

    Raises:
        ModelError: There is none.
    """
    found = sorted(
        root.glob('work_dirs/demo/train/best_*.pth'), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise ModelError(
            'name a model: --model CONFIG CHECKPOINT (or run `make demo` first, whose weights are '
            'then the default; no weights ship with the package)'
        )
    return [str(root / f'configs/aml/{DEMO}.py'), str(found[-1])]


class Models(Mapping[str, RISInferencer]):
    """Short name -> model.

    Args:
        named: [config, checkpoint], or [folder of a published model], each.
    """

    def __init__(self, named: Sequence[Sequence[str]], **options: Any) -> None:
        self._parts: dict[str, Sequence[str]] = {}
        self._ready: dict[str, RISInferencer] = {}
        self._options = options
        self._lock = threading.Lock()
        for parts in named:
            self._parts[self._name(parts)] = parts

    def _name(self, parts: Sequence[str]) -> str:
        if len(parts) == 1 and not Path(parts[0]).expanduser().is_dir():
            raise ModelError(f'--model {parts[0]} needs a checkpoint after it')
        if len(parts) > 2:
            raise ModelError(f'--model takes a config and a checkpoint, got {list(parts)}')
        short = Path(parts[0]).name.removesuffix('.py')
        if len(parts) == 2:
            find_config(parts[0])  # or says which there are
        taken = [name for name in self._parts if name.split(' #')[0] == short]
        return f'{short} #{len(taken) + 1}' if taken else short

    def __getitem__(self, name: str) -> RISInferencer:
        with self._lock:
            if name not in self._ready:
                parts = self._parts[name]
                load = RISInferencer if len(parts) == 2 else RISInferencer.from_pretrained
                model = load(*parts, **self._options)
                if hasattr(model.model.decode_head, 'maps'):
                    model.model.test_cfg = {**(model.model.test_cfg or {}), 'with_maps': True}
                self._ready[name] = model
            return self._ready[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)
