"""The tables of docs/performance.md are the recorded ones."""

from __future__ import annotations

import json

NAMES = {'maskris': 'MaskRIS', 'two-view': 'AML, `clean_weight=0.5`', 'release': 'AML as released'}


def gib(report: dict, way: str) -> str:
    return f'{report["mib"][way] / 1024:.1f}' if way in report['mib'] else '-'


def test_memory_of_two_views(root):
    report = json.loads((root / 'benchmarks/results/two_views_memory_caris.json').read_text())
    text = (root / 'docs/performance.md').read_text()
    assert report['settings']['batch'] == 8 and report['settings']['image_size'] == 448
    for key, name in NAMES.items():
        row = report[key]
        cells = [gib(row, way) for way in ('ours', 'published', 'sum')]
        assert f'| {name} | {" | ".join(cells)} |' in text
    assert f'Plain training takes {gib(report["plain"], "ours")} GiB' in text
    for key in ('maskris', 'two-view'):
        assert report[key]['ratio'] <= 1.05


def test_memory_of_a_small_host(root):
    report = json.loads((root / 'benchmarks/results/aml_step_segformer_memory.json').read_text())
    names = ('paper', 'half', 'release', 'two-view', 'maskris')
    figures = ' | '.join(f'{report[name]["memory_ratio"]:.2f}' for name in names)
    assert f'| *its peak memory* | {figures} |' in (root / 'docs/aml.md').read_text()
