"""What a wheel holds, and that the model index names files that exist."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

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
    files = ('cpu', 'lite', 'onedl', 'runtime', 'tests')
    installed = {requirement.name for file in files for requirement in required(root, file)}
    assert installed <= {requirement.name for requirement in required(root, 'constraints')}


@pytest.mark.parametrize(
    ('file', 'stack'), [('lite', OPENMMLAB), ('mminstall', OPENMMLAB), ('onedl', ONEDL)]
)
def test_the_version_check_accepts_what_is_installed(root, file, stack):
    accepted = [SpecifierSet(f'>={lowest},<{new}') for lowest, new in stack.ranges.values()]
    assert [requirement.specifier for requirement in required(root, file)] == accepted
