"""Several methods, several seeds, one table: run a study, go on with it, report it.

    python tools/study.py benchmarks/studies/ref_shapes.yaml --jobs 2
    python tools/study.py my_study.yaml --slurm gpu --sbatch gres=gpu:1 time=24:00:00
    python tools/study.py my_study.yaml --collect

The YAML file names cells (a config, and config keys to override), seeds, splits and metrics;
docs/studies.md has all keys. Runs that are done are left alone, those that were stopped go on.
The folder gets results.json, table.md and study.png: mean ± sample deviation over the seeds, and
differences of the same seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import mmseg_aml  # noqa: F401  its version check and compat layer come first
from mmseg_aml.command_line import ToolParser, run, write_json
from mmseg_aml.study.execute import Executor, array_script
from mmseg_aml.study.plan import Run, Study, read_study, runs_of
from mmseg_aml.study.plots import plot_cells
from mmseg_aml.study.statistics import difference_table, table

TOOLS = Path(__file__).resolve().parent


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('study', type=Path, help='YAML file')
    parser.add_argument(
        '--out-dir', type=Path, metavar='DIR', help='default: work_dirs/<name of the study>'
    )
    parser.add_json('the scores')
    parser.add_argument('--cells', nargs='+', metavar='NAME', help='only these')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='N', help='only these')
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side (default 1)')
    parser.add_argument('--collect', action='store_true', help='report what is done, run nothing')
    parser.add_argument('--slurm', metavar='PARTITION', help='submit what is missing as an array')
    parser.add_argument(
        '--sbatch', nargs='+', default=[], metavar='NAME=VALUE', help='further options of sbatch'
    )
    parser.add_argument('--run', type=int, metavar='NUMBER', help='only this run, for arrays')
    return parser.parse_args(argv)


def chosen(args: argparse.Namespace, study: Study, runs: Sequence[Run]) -> list[Run]:
    """The runs that the command line names.

    Raises:
        ValueError: It names cells or seeds that the study does not have.
    """
    wanted = []
    for name, given, there in (
        ('--cells', args.cells, list(study.cells)),
        ('--seeds', args.seeds, study.seeds),
    ):
        if given and not set(given) <= set(there):
            raise ValueError(f'{name} {given}: the study has {there}')
        wanted.append(given or there)
    return [one for one in runs if one.cell in wanted[0] and one.seed in wanted[1]]


def submit(args: argparse.Namespace, out: Path, numbers: Sequence[int]) -> None:
    """Write the batch script and hand it to Slurm."""
    command = [sys.executable, str(Path(__file__).resolve()), str(args.study.resolve())]
    settings = [f'--{setting}' for setting in (f'partition={args.slurm}', *args.sbatch)]
    command += ['--out-dir', str(out)]
    script = out / 'study.sbatch'
    out.mkdir(parents=True, exist_ok=True)
    script.write_text(array_script(args.study.stem, numbers, out, command, settings))
    said = subprocess.run(['sbatch', str(script)], check=True, capture_output=True, text=True)
    print(f'{said.stdout.strip()}: {len(numbers)} runs; {script}')


def report(
    args: argparse.Namespace, study: Study, executor: Executor, runs: Sequence[Run], out: Path
) -> None:
    """Write results.json, table.md and study.png of what is done; print the tables."""
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {name: {} for name in study.cells}
    for one in runs:
        if (scores := executor.scores(one)) is not None:
            results[one.cell][str(one.seed)] = scores
    done = sum(map(len, results.values()))
    print(f'{done} of {len(runs)} runs are done')
    if not done:
        return
    tables = [table(results, study.splits, study.metrics)]
    if study.compare:
        pairs = difference_table(results, study.compare, study.splits, study.metrics)
        tables.append(pairs)
    text = '\n\n'.join(filter(None, tables)) + '\n'
    content = dict(protocol=study.protocol, results=results)
    write_json(out / 'results.json', content)
    write_json(args.json, content)
    (out / 'table.md').write_text(text, encoding='utf-8')
    plot_cells(results, study.splits, study.metrics[0], out / 'study.png')
    print(f'protocol {study.protocol}, mean ± sample deviation over seeds\n\n{text}')
    print(f'{out}/results.json, table.md, study.png')


def main(argv: list[str] | None = None) -> int:
    """Run, submit or report; returns the exit code."""
    args = parse_args(argv)
    study = read_study(args.study)
    out = (args.out_dir or Path('work_dirs') / args.study.stem).resolve()
    runs = runs_of(study, out)
    executor = Executor(study, TOOLS)
    if args.run is not None:
        executor.prepare(out)
        executor.execute(runs[args.run])
        return 0
    wanted = chosen(args, study, runs)
    missing = [one for one in wanted if executor.scores(one) is None]
    failed: list[str] = []
    if args.slurm and missing:
        executor.prepare(out)
        submit(args, out, [runs.index(one) for one in missing])
    elif missing and not args.collect:
        executor.prepare(out)
        failed = executor.execute_all(missing, args.jobs)
    report(args, study, executor, runs, out)
    for failure in failed:
        print(f'failed: {failure}', file=sys.stderr)
    return int(bool(failed))


if __name__ == '__main__':
    run(main)
