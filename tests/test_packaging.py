"""What a wheel holds, and that the model index names files that exist."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mmseg_aml
from mmseg_aml.compat.versions import ONEDL, OPENMMLAB

PARTS = ('mmseg_aml', 'configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml')


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """A copy, since building writes beside setup.py."""
    source, copy = Path(__file__).resolve().parents[1], tmp_path_factory.mktemp('checkout')
    for part in PARTS:
        ignored = shutil.ignore_patterns('__pycache__', '.mim')
        shutil.copytree(source / part, copy / part, ignore=ignored)
    for name in FILES:
        if (source / name).exists():
            shutil.copy(source / name, copy)
    return copy


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(checkout: Path, command: str) -> None:
    # Not `pip wheel`: the newest setuptools would have to be fetched for an isolated build.
    run(sys.executable, 'setup.py', '--quiet', command, cwd=checkout, PYTHONWARNINGS='ignore')


@pytest.fixture(scope='module')
def wheel(checkout) -> Path:
    build(checkout, 'bdist_wheel')
    return next((checkout / 'dist').glob('*.whl'))


def relative_files(folder: Path) -> set[str]:
    skipped = ('__pycache__', '.mim')
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob('*')
        if path.is_file() and not any(part in skipped for part in path.parts)
    }


def test_wheel_holds_package_configs_and_tools(checkout, wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for part in ('configs', 'tools'):
        wanted = {f'mmseg_aml/.mim/{name}' for name in relative_files(checkout / part)}
        assert wanted and not wanted - inside
    assert 'mmseg_aml/.mim/model-index.yml' in inside
    assert not relative_files(checkout / 'mmseg_aml') - inside
    assert not [name for name in inside if name.startswith('tests/')]


def test_wheel_needs_no_compile(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith('METADATA'))
        required = [
            line.split()[1].lower()
            for line in archive.read(name).decode().splitlines()
            if line.startswith('Requires-Dist:') and 'extra ==' not in line
        ]
    assert required
    assert not [
        name for name in required if name.startswith(('torch', 'mmcv', 'mmseg', 'mmengine'))
    ]


def test_installed_wheel_has_version_and_index(wheel, tmp_path):
    run(
        *(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index'),
        *('--no-compile', '--target', str(tmp_path), str(wheel)),
        cwd=tmp_path,
    )
    code = 'import mmseg_aml; print(mmseg_aml.__file__, mmseg_aml.__version__)'
    printed = run(sys.executable, '-c', code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert str(tmp_path) in printed
    assert (tmp_path / 'mmseg_aml' / '.mim' / 'tools' / 'train.py').is_file()


def test_source_distribution(checkout):
    build(checkout, 'sdist')
    archive = next((checkout / 'dist').glob('*.tar.gz'))
    shutil.unpack_archive(archive, checkout / 'unpacked')
    inside = next((checkout / 'unpacked').iterdir())
    for part in PARTS:
        assert {p.relative_to(inside).as_posix() for p in (inside / part).rglob('*')} >= (
            relative_files(checkout / part)
        )


def test_twine_accepts_both(checkout, wheel):
    if not list((checkout / 'dist').glob('*.tar.gz')):
        build(checkout, 'sdist')
    files = sorted(str(path) for path in (checkout / 'dist').iterdir())
    assert len(files) == 2
    said = run(sys.executable, '-m', 'twine', 'check', '--strict', *files, cwd=checkout)
    assert said.count('PASSED') == 2, said


def test_pythons_are_said_alike(root):
    setup = (root / 'setup.py').read_text()
    lowest, above = re.search(r"python_requires='>=3\.(\d+),<3\.(\d+)'", setup).groups()
    assert f'range({lowest}, {above})' in setup  # the classifiers
    said = f'Python 3.{lowest} to 3.{int(above) - 1}'
    for page in ('README.md', 'docs/install.md'):
        assert said in (root / page).read_text(), f'{page} does not say {said}'
    assert f'target-version = "py3{lowest}"' in (root / 'pyproject.toml').read_text()


def test_extras_are_documented(root):
    extras = re.findall(r"^        '(\w+)': _requirements", (root / 'setup.py').read_text(), re.M)
    named = ','.join(re.findall(r'\[([\w,]+)\]"', (root / 'docs/install.md').read_text()))
    assert extras and not set(extras) - set(named.split(','))


def test_version_and_authors_are_said_alike(root):
    citation = yaml.safe_load((root / 'CITATION.cff').read_text())
    assert citation['version'] == mmseg_aml.__version__
    assert citation['authors'] == [{'name': 'The mmseg_aml authors'}]
    assert "author='the mmseg_aml authors'" in (root / 'setup.py').read_text()
    assert f'## {mmseg_aml.__version__}\n' in (root / 'CHANGELOG.md').read_text()


def test_hooks_use_the_tested_versions(root):
    config = yaml.safe_load((root / '.pre-commit-config.yaml').read_text())
    pinned = (root / 'requirements/constraints.txt').read_text().split('\n')
    hooks = config['repos'][0]['hooks']
    needed = {name for hook in hooks for name in hook.get('additional_dependencies', [])}
    assert needed and needed <= set(pinned)
    assert '.venv' not in (root / '.pre-commit-config.yaml').read_text()


def test_editable_links_follow_the_checkout(checkout, tmp_path):
    code = 'import setuptools.build_meta as b, sys; print(b.build_editable(sys.argv[1], {}))'
    run(sys.executable, '-c', code, str(tmp_path), cwd=checkout)
    mim = checkout / 'mmseg_aml' / '.mim'
    assert (mim / 'configs').resolve() == checkout / 'configs'
    assert (mim / 'model-index.yml').resolve() == checkout / 'model-index.yml'


def test_model_index_is_up_to_date(root):
    """``python tools/write_metafiles.py`` would change nothing."""
    source = root / 'tools' / 'write_metafiles.py'
    spec = importlib.util.spec_from_file_location('write_metafiles', source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.contents().items():
        assert path.is_file() and path.read_text() == text, f'run tools/write_metafiles.py: {path}'
        for model in yaml.safe_load(text).get('Models') or []:
            assert (root / model['Config']).is_file()
    with pytest.raises(ValueError, match='does not follow the naming scheme'):
        module.model_entry(root / 'configs' / 'x' / 'nameless.py', 'x')


def required(root: Path, file: str) -> list[Requirement]:
    lines = (root / 'requirements' / f'{file}.txt').read_text().splitlines()
    stripped = [line.split('#')[0].strip() for line in lines]
    return [Requirement(line) for line in stripped if line and not line.startswith('-')]


def test_constraints_cover_what_is_tested(root):
    """Each package that `make` installs by name has a tested version."""
    files = ('cpu', 'docs', 'lite', 'onedl', 'runtime', 'tests')
    installed = {requirement.name for file in files for requirement in required(root, file)}
    assert installed <= {requirement.name for requirement in required(root, 'constraints')}


@pytest.mark.parametrize(
    ('file', 'stack'), [('lite', OPENMMLAB), ('mminstall', OPENMMLAB), ('onedl', ONEDL)]
)
def test_the_version_check_accepts_what_is_installed(root, file, stack):
    accepted = [SpecifierSet(f'>={lowest},<{new}') for lowest, new in stack.ranges.values()]
    assert [requirement.specifier for requirement in required(root, file)] == accepted
