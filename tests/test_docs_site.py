"""The documentation site builds, with all its links."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip('mkdocs', reason='needs requirements/docs.txt')
pytest.importorskip('mkdocstrings', reason='needs requirements/docs.txt')


@pytest.fixture(scope='module')
def site(root, tmp_path_factory):
    out = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(out)],
        cwd=root,
        env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_page_is_in_the_menu(site, root):
    menu = (root / 'mkdocs.yml').read_text()
    pages = {path.relative_to(root / 'docs').as_posix() for path in root.glob('docs/**/*.md')}
    assert not {page for page in pages if page not in menu}
    for page in pages:
        name = '' if page == 'index.md' else page.removesuffix('.md') + '/'
        assert (site / name / 'index.html').is_file(), page


def test_the_reference_is_made_of_docstrings(site):
    page = (site / 'api/strategies/index.html').read_text()
    assert 'mmseg_aml.strategies.aml.pmme.PMME' in page and 'temperature' in page
    assert not re.findall(r':(?:class|func|meth):', page)


def test_no_page_asks_another_server(site):
    for path in site.glob('**/index.html'):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', path.read_text()
        )
        assert not fetched, path
