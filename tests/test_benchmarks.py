"""benchmarks/aml_step.py: what it counts, and the recorded figures."""

import importlib
import json
import math
from statistics import mean, pvariance

import pytest


@pytest.fixture
def bench(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    return importlib.import_module('aml_step')


@pytest.fixture
def config(root):
    return str(next(root.glob('configs/mmseg_heads/segformer_r18-mini*ref-shapes*.py')))


def test_counts_of_a_small_host(bench, config, tmp_path):
    out = tmp_path / 'a' / 'out.json'
    options = ['--variants', 'paper', 'random', 'two-view', '--image-size', '64', '--flops']
    report = bench.main([config, *options, '--json', str(out)])
    assert json.loads(out.read_text()) == report
    assert report['plain']['flops_ratio'] == report['plain']['memory_ratio'] == 1
    # The encoders' forward pass is a part of a third of the step.
    assert 1 < report['paper']['flops_ratio'] < 4 / 3 + 0.01
    assert report['random']['gflops'] == report['paper']['gflops']
    assert report['two-view']['flops_ratio'] == pytest.approx(2, abs=0.01)
    assert report['two-view']['memory_ratio'] > report['paper']['memory_ratio'] > 1
    for name in ('release', 'maskris'):
        ratios = [report[name][f'{key}_ratio'] for key in ('flops', 'time', 'memory')]
        assert ratios == [None] * 3


def test_times_are_ratios_to_plain(bench, config):
    options = ['--variants', 'paper', '--image-size', '64', '--repeats', '1']
    report = bench.main([config, *options])
    assert report['plain']['time_ratio'] == 1
    assert 0.5 < report['paper']['time_ratio'] < 4
    assert report['plain']['seconds'] > 0


def test_peak_memory_counts_what_is_alive_at_once(bench):
    import torch

    known = torch.zeros(1000)
    with importlib.import_module('step_counts').PeakMemory([known]) as memory:
        for _ in range(3):
            known + 1  # 4000 bytes, gone at once
        kept = torch.ones(500) * 2
    assert memory.peak == 4000 and memory.live == kept.untyped_storage().nbytes()


def test_recorded_cost_at_the_full_size_of_caris(root):
    path = root / 'benchmarks/results/aml_step_caris_flops.json'
    report = json.loads(path.read_text())
    assert report['settings']['image_size'] == 448
    assert report['plain']['gflops'] == pytest.approx(727.9, rel=1e-3)
    assert report['paper']['flops_ratio'] <= 1.18
    assert report['half']['flops_ratio'] <= 1.06
    assert report['two-view']['flops_ratio'] == pytest.approx(2, abs=0.002)  # no stage 1


@pytest.mark.parametrize('expressions', [1, 9])
def test_cost_of_several_sentences_in_the_docs(root, expressions):
    path = root / f'benchmarks/results/aml_step_segformer_flops_k{expressions}.json'
    report = json.loads(path.read_text())
    assert report['settings']['expressions'] == expressions
    variants = ('paper', 'half', 'two-view', 'maskris')
    figures = ' | '.join(f'{report[name]["flops_ratio"]:.2f}' for name in variants)
    assert f'| K = {expressions} | {figures} |' in (root / 'docs/aml.md').read_text()


ALIGNMENT = {  # row of docs/aml.md -> setting of the alignment tool
    'PMME, t = 0.012': 'pmme + paper',
    'PMME, t = 0.02 (`aml` on RefShapes)': 'config + paper',
    'PMME, as written (`aml-literal`)': 'pmme-literal + literal',
    'PMME, one shared projection': 'pmme-shared + paper',
    "the release's Linear (`aml-release`)": 'linear + release',
    'uniform noise': 'noise + paper',
}


@pytest.mark.parametrize('row', ALIGNMENT)
def test_alignment_on_trained_networks_in_the_docs(root, row):
    path = root / 'benchmarks/results/alignment_ref_shapes_trained.json'
    networks = [one[ALIGNMENT[row]]['all'] for one in json.loads(path.read_text()).values()]
    assert len(networks) == 3

    def over_all(measure):
        means = [one[measure]['mean'] for one in networks]
        variance = mean(one[measure]['over_seeds'] ** 2 for one in networks) + pvariance(means)
        return f'{mean(means):.3f} ± {math.sqrt(variance):.3f}'

    shares = [
        f'{100 * mean(one[measure]["mean"] for one in networks):.0f}'
        for measure in ('weak', 'masked', 'masked_target')
    ]
    rows = [
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in (root / 'docs/aml.md').read_text().splitlines()
        if line.startswith(f'| {row} |')
    ]
    aucs, masked = rows[-2:]  # the first table is that of the calibration
    assert aucs[2] == f'{over_all("auc")}, *{over_all("auc_others")}*'
    assert masked[2] == ' / '.join(shares)


def test_the_table_in_the_docs_is_the_recorded_one(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'benchmarks'))
    table = importlib.import_module('ref_shapes_table')
    results = json.loads((root / 'benchmarks/results/ref_shapes_table.json').read_text())['results']
    assert {name: sorted(seeds) for name, seeds in results.items()} == {
        name: ['0', '1', '2'] for name in table.CELLS
    }
    for line in table.markdown(results).splitlines()[2:]:
        assert line in (root / 'docs/comparison.md').read_text()
    for language, name in (('ko', 'Korean'), ('zh', 'Chinese')):
        report = json.loads((root / f'benchmarks/results/ref_shapes_{language}.json').read_text())
        assert report['language'] == language
        line = table.markdown(report['results']).splitlines()[2].replace('VIPA', name)
        assert line in (root / 'docs/towers.md').read_text()
    hosts = json.loads((root / 'benchmarks/results/ref_shapes_hosts.json').read_text())['results']
    assert list(hosts) == list(table.HOSTS)
    for line in table.markdown(hosts).splitlines()[2:]:
        assert line in (root / 'docs/comparison.md').read_text()
    for config in (table.CELLS | table.HOSTS).values():
        assert (root / f'configs/{config}_1xb8-8e_ref-shapes-64x64.py').is_file()


def test_generalised_table_in_the_docs(root):
    path = root / 'benchmarks/results/gref_shapes_table.json'
    for name, seeds in json.loads(path.read_text())['results'].items():
        scores = seeds['0']['val'].values()
        line = f'| {name} | ' + ' | '.join(f'{score:.1f}' for score in scores) + ' |'
        assert line in (root / 'docs/comparison.md').read_text()
