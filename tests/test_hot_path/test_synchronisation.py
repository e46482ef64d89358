"""A training step queues its work and waits for the GPU only where it says so here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HOSTS = ('plain head', 'CARIS', 'LAVT', 'VIPA')
STRATEGIES = ('plain', 'AML', 'MaskRIS')
LIMIT = 4
REASONS = {
    # Whether all sentences are of full length decides about the attention kernel; once for each
    # time that the text is encoded (AML: without and with dropout).
    'masking_utils': 'local_scalar_dense at transformers/masking_utils.py',
    # Expressions of one image of which nothing is masked share the clean image; only with several
    # expressions an image.
    'masked_images': 'tolist at masking/masker.py',
}


@pytest.fixture(scope='module')
def counted() -> dict[str, dict[str, int]]:
    cases = [f'{host}/{strategy}' for host in HOSTS for strategy in STRATEGIES]
    script = Path(__file__).with_name('count_synchronisations.py')
    command = [sys.executable, '-W', 'ignore', str(script), *cases]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('RESULT ')]
    assert lines, done.stderr[-3000:]
    return json.loads(lines[0].removeprefix('RESULT '))


def test_the_counter_sees_every_way_to_wait(counted):
    kinds = counted['kinds']
    assert kinds.pop('free of waiting') == 0
    assert set(kinds.values()) == {1}


@pytest.mark.parametrize('strategy', STRATEGIES)
@pytest.mark.parametrize('host', HOSTS)
def test_a_step_waits_only_where_it_is_said(counted, host, strategy):
    found = counted[f'{host}/{strategy}']
    unknown = [place for place in found if not place.startswith(tuple(REASONS.values()))]
    assert not unknown
    assert sum(found.values()) <= LIMIT
