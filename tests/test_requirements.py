"""Every package that is imported is asked for."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from packaging.requirements import Requirement

# Import name -> distribution, where they differ.
DISTRIBUTIONS = {'PIL': 'pillow', 'huggingface_hub': 'huggingface-hub'}
# What the OpenMMLab packages bring, and they themselves by their import names.
WITH_OPENMMLAB = {'mmengine', 'mmcv', 'mmseg', 'torch', 'cv2', 'matplotlib', 'yaml', 'prettytable'}
# Imported where they are used, with a message that says how to install them.
OPTIONAL = {'mmpretrain', 'mmdet', 'peft', 'pyarrow', 'wandb', 'torchvision', 'onnx', 'onnxscript'}


def imported(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                found.update(alias.name.split('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split('.')[0])
    return found


def test_imports_are_required(root):
    lines = (root / 'requirements' / 'runtime.txt').read_text().splitlines()
    stripped = [line.split('#')[0].strip() for line in lines]
    required = {Requirement(line).name for line in stripped if line}
    ours = {'mmseg_aml', *sys.stdlib_module_names}
    needed = imported(root / 'mmseg_aml') - ours - WITH_OPENMMLAB - OPTIONAL
    assert {DISTRIBUTIONS.get(name, name) for name in needed} <= required
