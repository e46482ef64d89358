"""Tools as modules, and small logs."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture
def tool(root):
    def load(path):
        spec = importlib.util.spec_from_file_location(f'tool_{Path(path).stem}', root / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def write_log():
    def write(folder: Path, records: list, start: str = '1') -> Path:
        file = folder / start / 'vis_data/scalars.json'
        file.parent.mkdir(parents=True)
        file.write_text(''.join(json.dumps(record) + '\n' for record in records))
        return folder

    return write
