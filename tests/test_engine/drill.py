"""The failure drill: break a training of two ranks at every moment, resume it, judge the end.

``python tests/test_engine/drill.py [--only NAME ...] [--markdown FILE]``. Each scenario starts
torchrun's own agent with two gloo processes, lets one fault happen, resumes, and compares with
an undisturbed run. It passes if

* nothing is lost: a run that was told to stop repeats no iteration, one that was killed goes on
  from its newest checkpoint; weights, best checkpoint and samples of every epoch are those of
  the undisturbed run, bit for bit (with another number of ranks: samples and learning rate);
* nothing is silently wrong: the first run ends with an error code, what was skipped or changed
  stands in the log, and no damaged file is left under a checkpoint's name.

About five minutes on two cores; ``--only`` for a few.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import torch
from drill_training import BATCH, EPOCHS, SAMPLES, train

from mmseg_aml.engine.checkpoints import CheckpointError, read_checkpoint

MOMENTS = ('train', 'accumulate', 'validate', 'write')
LIMIT = 120.0


@dataclass(frozen=True)
class Scenario:
    """A fault at a moment, and what happens before the run is resumed.

    log: what the logs must say. between: done to the newest checkpoint before resuming. ranks:
    of each launch. repeats: iterations that may be made twice.
    """

    fault: str
    moment: str
    launches: list[dict[str, Any]]
    log: str
    between: str = ''
    repeats: int = 0
    ranks: tuple[int, ...] = (2, 2)

    @property
    def name(self) -> str:
        return f'{self.fault}-{self.moment}'.replace(' ', '-')


def scenarios() -> list[Scenario]:
    """All of them: {fault} x {moment}, and some of two faults."""
    return [made for moment in MOMENTS for made in _at(moment)]


def _at(moment: str) -> list[Scenario]:
    base: dict[str, Any] = {'windows': 5} if moment == 'accumulate' else {}

    def fault(action: str, **more: Any) -> list[dict[str, Any]]:
        return [{**base, 'fault': dict(action=action, moment=moment, **more)}, dict(base)]

    def stale(looks: int, patience: float) -> list[dict[str, Any]]:
        first, second = fault('signal')
        return [first, {**second, 'stale': (newest, looks), 'patience': patience}]

    newest = 'interrupted.pth' if moment in ('train', 'accumulate') else 'epoch_2.pth'
    # Since the newest checkpoint, and since the one before.
    back = {'train': 2, 'accumulate': 3, 'validate': 0, 'write': 6}[moment]
    told, fell = 'told to stop', 'falling back to the checkpoint before it'
    older = {'train': 2, 'accumulate': 4, 'validate': 6, 'write': 6}[moment]
    smaller = [fault('signal')[0], {**base, 'rescale': True}, {**base, 'rescale': True}]
    smaller[1]['fault'] = dict(action='signal', moment='train', iteration=30)
    return [
        Scenario('signal to torchrun', moment, fault('signal'), told),
        Scenario('signal to a rank', moment, fault('signal', target='1'), told),
        Scenario('SIGUSR1', moment, fault('usr1', target='0'), told),
        Scenario('slow write', moment, fault('signal', slow=4.0), told),
        Scenario('kill', moment, fault('kill'), '', repeats=back),
        Scenario('dead rank', moment, fault('die'), '', repeats=back),
        # The run ends at the next checkpoint that cannot be written: an epoch at most.
        Scenario('full disk', moment, fault('full'), 'No space left on device', repeats=6),
        Scenario('damaged newest', moment, fault('signal'), fell, 'damage', older),
        Scenario('stale newest', moment, stale(99, 0.2), fell, repeats=older),
        Scenario('late newest', moment, stale(3, 30.0), told),
        Scenario('2-1-2 ranks', moment, smaller, 'auto_scale_lr', ranks=(2, 1, 2)),
    ]


@dataclass
class Launch:
    """One start of torchrun's agent: how it ended and what it said."""

    code: int
    seconds: float
    output: str


def run(folder: Path, number: int, ranks: int, options: dict[str, Any]) -> Launch:
    """Start, wait, and never leave a process behind. A fork saves the imports."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f'launch_{number}.log'
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os._exit(_agent(log, folder, number, ranks, options))
    code = None
    while code is None and time.monotonic() - start < LIMIT:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        time.sleep(0.02)
    with_group = [] if code is not None else [child]
    for leader in with_group:
        os.killpg(leader, signal.SIGKILL)
        os.waitpid(leader, 0)
    seconds = time.monotonic() - start
    return Launch(-999 if code is None else code, seconds, log.read_text(errors='replace'))


def _agent(log: Path, folder: Path, number: int, ranks: int, options: dict[str, Any]) -> int:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id='drill',
        rdzv_backend='c10d',
        rdzv_endpoint='localhost:0',
        start_method='fork',
        monitor_interval=0.1,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / 'torchrun')),
    )
    try:
        elastic_launch(config, train)(str(folder / 'work'), number, options)
    except SignalException as error:
        return 128 + int(error.sigval)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@dataclass
class Verdict:
    """problems: empty if the scenario passed."""

    scenario: Scenario
    repeated: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def play(scenario: Scenario, whole: Path, folder: Path, seed: int) -> Verdict:
    """All launches of a scenario, and the judgement."""
    verdict = Verdict(scenario)
    work, launches = folder / 'work', []
    for number, (ranks, options) in enumerate(zip(scenario.ranks, scenario.launches)):
        if number == 1 and scenario.between == 'damage':
            damage(work, seed)
        launches.append(run(folder, number, ranks, options))
        last = number == len(scenario.launches) - 1
        if (launches[-1].code == 0) != last:
            verdict.problems.append(f'launch {number} ended with code {launches[-1].code}')
    logs = ''.join(p.read_text(errors='replace') for p in sorted(work.rglob('*.log')))
    if scenario.log not in logs + ''.join(launch.output for launch in launches):
        verdict.problems.append(f'the log does not say {scenario.log!r}')
    judge_files(verdict, work, whole)
    judge_samples(verdict, work, whole)
    verdict.seconds = sum(launch.seconds for launch in launches)
    return verdict


def damage(work: Path, seed: int) -> None:
    """Flip 64 bytes of the newest checkpoint, or cut it off."""
    newest = Path((work / 'last_checkpoint').read_text())
    content, draw = bytearray(newest.read_bytes()), random.Random(seed)
    place = draw.randrange(len(content) // 4, len(content) // 2)
    if draw.random() < 0.5:
        content[place : place + 64] = bytes(b ^ 255 for b in content[place : place + 64])
    else:
        del content[place:]
    newest.write_bytes(content)


def judge_files(verdict: Verdict, work: Path, whole: Path) -> None:
    """Weights, best checkpoint, and no damaged or temporary file."""
    damaged = verdict.scenario.between == 'damage'
    for path in work.glob('*.pth'):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            if not (damaged and path.name == 'interrupted.pth'):
                verdict.problems.append(str(error))
    verdict.problems += [f'left over: {path.name}' for path in work.glob('.*.tmp')]
    pointer = Path((work / 'last_checkpoint').read_text()).name
    if pointer != f'epoch_{EPOCHS}.pth':
        verdict.problems.append(f'last_checkpoint names {pointer}')
    if set(verdict.scenario.ranks) != {2}:
        return
    names = [f'epoch_{EPOCHS}.pth', *(path.name for path in whole.glob('best_*.pth'))]
    best = sorted(path.name for path in work.glob('best_*.pth'))
    if best != names[1:]:
        verdict.problems.append(f'best checkpoint {best}, undisturbed {names[1:]}')
        names = names[:1]
    for name in names:
        ours, theirs = (read_checkpoint(folder / name) for folder in (work, whole))
        other = [k for k, v in theirs['state_dict'].items() if not v.equal(ours['state_dict'][k])]
        if other:
            verdict.problems.append(f'{name} differs from the undisturbed run in {other}')


def lines(work: Path) -> list[dict[str, Any]]:
    """What the ranks have logged of their iterations."""
    files = sorted(work.glob('samples.*'))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def judge_samples(verdict: Verdict, work: Path, whole: Path) -> None:
    """Every epoch has each sample once, the rate ends as it should, and few are made twice."""
    entries = lines(work)
    steps = [BATCH * ranks for ranks in verdict.scenario.ranks]
    starts = [
        min((e['iter'] * steps[n] for e in entries if e['launch'] == n), default=None)
        for n in range(len(steps))
    ]
    starts.append(EPOCHS * SAMPLES)
    counted: dict[int, list[int]] = {}
    for entry in entries:
        launch, at = entry['launch'], entry['iter'] * steps[entry['launch']]
        later = [start for start in starts[launch + 1 :] if start is not None]
        if at < min(later):
            counted.setdefault(entry['epoch'], []).extend(entry['items'])
        else:
            verdict.repeated += entry['rank'] == 0
    for epoch in range(EPOCHS):
        if sorted(counted.get(epoch, [])) != list(range(SAMPLES)):
            verdict.problems.append(f'epoch {epoch + 1} had {sorted(counted.get(epoch, []))}')
    if verdict.repeated > verdict.scenario.repeats:
        verdict.problems.append(f'{verdict.repeated} iterations were made twice')
    ends = [max(lines(folder), key=lambda e: (e['launch'], e['iter'])) for folder in (work, whole)]
    ours, theirs = (end['lr'] for end in ends)
    if abs(ours - theirs) > 1e-9 * theirs:
        verdict.problems.append(f'last rate {ours}, undisturbed {theirs}')


def markdown(verdicts: list[Verdict]) -> str:
    """A table of faults by moments: iterations made twice, or FAILED."""
    faults = list(dict.fromkeys(v.scenario.fault for v in verdicts))
    rows = ['| fault | ' + ' | '.join(MOMENTS) + ' |', '|---' * 5 + '|']
    for fault in faults:
        cells = {
            v.scenario.moment: 'FAILED' if v.problems else f'passed, {v.repeated} repeated'
            for v in verdicts
            if v.scenario.fault == fault
        }
        rows.append(f'| {fault} | ' + ' | '.join(cells.get(m, '') for m in MOMENTS) + ' |')
    return '\n'.join(rows) + '\n'


def main(arguments: list[str] | None = None) -> list[Verdict]:
    """Play them, print a line each, and return what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', nargs='+', help='names of scenarios')
    parser.add_argument('--seed', type=int, default=0, help='of the damage')
    parser.add_argument('--markdown', type=Path, help='write the table to this file')
    parser.add_argument('--keep', type=Path, help='keep the folders of the runs here')
    args = parser.parse_args(arguments)
    chosen = [s for s in scenarios() if not args.only or s.name in args.only]
    if args.only and len(chosen) != len(args.only):
        parser.error(f'names are {[s.name for s in scenarios()]}')
    torch.set_num_threads(1)
    root = args.keep or Path(tempfile.mkdtemp())
    verdicts = []
    for windows in sorted({s.launches[0].get('windows', 1) for s in chosen}):
        undisturbed = run(root / f'whole_{windows}', 0, 2, {'windows': windows})
        assert undisturbed.code == 0, undisturbed.output
    for number, scenario in enumerate(chosen):
        whole = root / f'whole_{scenario.launches[0].get("windows", 1)}' / 'work'
        verdict = play(scenario, whole, root / scenario.name, args.seed + number)
        verdicts.append(verdict)
        said = '; '.join(verdict.problems) or f'passed, {verdict.repeated} repeated'
        print(f'{scenario.name}: {said} ({verdict.seconds:.0f} s)', flush=True)
    print(f'{sum(not v.problems for v in verdicts)} of {len(verdicts)} passed')
    if args.markdown:
        args.markdown.write_text(markdown(verdicts))
    if args.keep is None:
        shutil.rmtree(root)
    return verdicts


if __name__ == '__main__':
    sys.exit(any(verdict.problems for verdict in main()))
