"""Compare our hosts with the published networks on stored inputs and outputs.

    python tests/parity/check.py FOLDER [FOLDER ...]

A folder holds ``config.json``, ``state_dict.pt`` and ``io_*.npz`` (and perhaps
``grad_norms.json`` and files of its own kind), laid out like the reference folders
``parity/caris``, ``parity/lavt``, ``parity/rela`` and ``parity/detris``. Prints the largest
absolute differences of every case; exits with 1 if logits differ by more than 1e-4, the loss
by more than 1e-5, or a parameter's gradient norm by more than 0.1 %; a case module may set
other tolerances, with the reason.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import mmseg_aml  # noqa: F401  the compat layer comes before mmseg's own modules

sys.path.insert(0, str(Path(__file__).resolve().parent))

LOGITS, LOSS, GRADIENT = 1e-4, 1e-5, 1e-3
# Gradients that are zero in theory (biases of attention keys, and of the class kernels) are
# stored as rounding noise, which is in proportion to the largest gradients.
NOISE = 5e-8


class Difference(NamedTuple):
    """One line of the report."""

    name: str
    value: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference is a number within the tolerance."""
        return self.value <= self.tolerance


def case_module(folder: Path) -> ModuleType:
    """The module that knows the layout of ``folder``."""
    config = json.loads((folder / 'config.json').read_text())
    if 'pixel_decoder' in config and 'head' in config:
        import rela_case as module
    elif 'bert' in config:
        import caris_case as module
    elif 'num_heads_fusion' in config:
        import lavt_case as module
    elif 'dino' in config:
        import detris_case as module
    else:
        raise ValueError(f'{folder}/config.json is laid out like no known host')
    return module


def difference(
    name: str, ours: Any, stored: np.ndarray, tolerances: Mapping[str, float] | None = None
) -> Difference:
    """Largest absolute difference; of labels and flags, the share of entries that differ.

    Arrays stored in half precision get its rounding on top of the tolerance: the first of
    ``tolerances`` whose pattern is the whole name.
    """
    tolerance = LOSS if name.startswith('loss') else LOGITS
    found = [t for pattern, t in (tolerances or {}).items() if re.fullmatch(pattern, name)]
    tolerance = found[0] if found else tolerance
    if stored.dtype == np.float16:
        tolerance += float(np.abs(stored).max()) * 2.0**-11
    if np.shape(ours) != stored.shape:
        raise ValueError(f'{name}: our shape {np.shape(ours)}, stored {stored.shape}')
    if stored.dtype.kind in 'bui':
        return Difference(name, float(np.mean(np.asarray(ours) != stored)), tolerance)
    gap = np.abs(np.asarray(ours, np.float64) - stored.astype(np.float64))
    return Difference(name, float(gap.max()), tolerance)


def gradient_differences(
    ours: dict[str, float], stored: dict[str, float], zero: re.Pattern[str] | None = None
) -> list[Difference]:
    """The worst relative difference of the norms, and the number of absent gradients.

    Of parameters that match ``zero`` the true gradient is 0: their norms only have to be small.
    """
    stored = {key: norm for key, norm in stored.items() if norm is not None}  # None: unused
    absent = sorted(stored.keys() - ours.keys())
    if absent:
        print(f'  no gradient: {absent}')
    noise = {k: ours[k] for k in stored.keys() & ours.keys() if zero and zero.fullmatch(k)}
    stored = {k: norm for k, norm in stored.items() if k not in noise}
    floor = NOISE * max(stored.values()) / GRADIENT
    gaps = {k: abs(ours[k] - norm) / (norm + floor) for k, norm in stored.items() if k in ours}
    worst = max(gaps, key=lambda key: gaps[key])
    found = [
        Difference(f'gradient norm, relative ({worst})', gaps[worst], GRADIENT),
        Difference('parameters without gradient', float(len(absent)), 0.0),
    ]
    if noise:
        largest = max(stored.values())
        found.append(Difference('gradients that are zero', max(noise.values()) / largest, 1e-6))
    return found


def check(folder: Path) -> dict[str, list[Difference]]:
    """The differences of every case of a folder.

    Raises:
        FileNotFoundError: If the folder holds no ``io_*.npz``.
    """
    cases = sorted(folder.glob('io_*.npz'))
    if not cases:
        raise FileNotFoundError(f'{folder} holds no io_*.npz')
    module = case_module(folder)
    norms_file = folder / 'grad_norms.json'
    norms = json.loads(norms_file.read_text()) if norms_file.exists() else {}
    tolerances = getattr(module, 'TOLERANCES', {})
    report = {}
    for path in cases:
        model = module.build(folder)  # a training forward moves batch statistics
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        outputs = module.run(model, arrays)
        found = [difference(k, v, arrays[k], tolerances) for k, v in outputs.items() if k in arrays]
        name = path.stem[len('io_') :]
        zero = getattr(module, 'NO_GRADIENT', None)
        for key, own in outputs.items():  # grad_norms, and of other modes grad_norms_MODE
            stored = norms.get(name + key[len('grad_norms') :]) if 'grad_norms' in key else None
            if stored:
                found += gradient_differences(own, stored, zero)
        report[name] = found
    if hasattr(module, 'further_cases'):
        for name, items in module.further_cases(folder).items():
            report[name] = [
                difference(key, ours, stored, tolerances) for key, ours, stored in items
            ]
    return report


def main(folders: list[Path]) -> int:
    """Print the report of the folders; 0 if everything is within tolerance, else 1."""
    failed = False
    for folder in folders:
        for case, found in check(folder).items():
            print(f'{folder.name} {case}')
            for item in found:
                print(
                    f'  {"ok  " if item.ok else "FAIL"} {item.value:.3e} '
                    f'(<= {item.tolerance:.1e})  {item.name}'
                )
                failed |= not item.ok
    print('outside tolerance' if failed else 'all within tolerance')
    return int(failed)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='+', type=Path, metavar='FOLDER')
    raise SystemExit(main(parser.parse_args().folders))
