"""Code in the documentation: commands parse, files and names exist, Python is right.

What docs/data.md and docs/tutorial.md show from beginning to end is run in tests of their own.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from mmseg_aml import registry
from mmseg_aml.study.plan import Study

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob('docs/**/*.md'), ROOT / 'README.md', ROOT / 'CONTRIBUTING.md']
)
BLOCK = re.compile(r'^( *)```(\w*)[^\n]*\n(.*?)^\1```', re.MULTILINE | re.DOTALL)
LANGUAGES = {'python', 'bash', 'yaml', 'json', ''}
# Commands of other programs; what they do is theirs.
OTHERS = {'export', 'hf', 'pip', 'mim', 'make', 'sbatch', 'pre-commit', 'cd', 'mkdocs', 'scontrol'}
PLACEHOLDERS = ('...', 'NAME', 'ANY_')
WRITTEN = {'data/make_example.py', 'data/mine.py', 'figure.py'}  # by blocks before them


class Parsed(Exception):
    """A command line was parsed; nothing was run."""


def blocks(page: str, language: str) -> list[str]:
    found = BLOCK.findall((ROOT / page).read_text(encoding='utf-8'))
    return [re.sub(rf'^{indent}', '', text, flags=re.MULTILINE) for indent, name, text in found
            if name == language]  # fmt: skip


def commands(block: str) -> list[list[str]]:
    """The commands of a shell block, without comments, variables and continuations."""
    lines = block.replace('\\\n', ' ').splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    found = []
    for words in filter(None, split):
        while words and re.fullmatch(r'[A-Z_0-9]+=.*', words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found


def parse(script: str, arguments: list[str], monkeypatch) -> None:
    """Have a script of ours parse its command line."""
    path = ROOT / script
    assert path.is_file(), f'no {script}'
    if 'def main' not in path.read_text():
        compile(path.read_text(), script, 'exec')  # it runs when it is read
        return
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        real(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'argv', [script, *arguments])
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f'block_{path.stem}', path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if '--help' in arguments:
        with pytest.raises(SystemExit):
            module.main()
        return
    with pytest.raises(Parsed):
        module.main()


def test_pages_have_only_known_languages():
    for page in PAGES:
        names = {name for _, name, _ in BLOCK.findall((ROOT / page).read_text(encoding='utf-8'))}
        assert names <= LANGUAGES, page


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'bash')])
def test_commands_parse(page, monkeypatch, capsys):
    for words in (words for block in blocks(page, 'bash') for words in commands(block)):
        program, *arguments = words
        if program in ('bash', 'python') and arguments[:1] != ['-m']:
            program, *arguments = arguments
        for word in arguments:
            named = word.startswith('configs/') and not any(p in word for p in PLACEHOLDERS)
            assert not named or (ROOT / word).exists(), f'{page}: no {word}'
        if program in WRITTEN or program in OTHERS or program.startswith('--'):
            check_extras(words)
        elif program.endswith('.sh'):
            name = program if '/' in program else f'tools/{program}'
            assert (ROOT / name).is_file(), f'{page}: no {program}'
        else:
            with monkeypatch.context() as patch:
                try:
                    parse(program, arguments, patch)
                except SystemExit:
                    pytest.fail(f'{page}: {shlex.join(words)}\n{capsys.readouterr().err}')


def check_extras(words: list[str]) -> None:
    """``pip install ".[a,b]"`` names extras that there are; ``make x`` a target."""
    setup = (ROOT / 'setup.py').read_text()
    for extras in re.findall(r'^(?:\.|mmseg_aml)\[([\w,]+)\]$', '\n'.join(words), re.MULTILINE):
        for extra in extras.split(','):
            assert f"'{extra}':" in setup, f'no extra {extra}'
    if words[0] == 'make':
        assert re.search(rf'^{words[1]}:', (ROOT / 'Makefile').read_text(), re.MULTILINE), words


@pytest.mark.parametrize('page', [page for page in PAGES if blocks(page, 'python')])
def test_python_is_right(page):
    for block in blocks(page, 'python'):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmseg_aml'):
                module = importlib.import_module(str(node.module))
                missing = [n.name for n in node.names if not hasattr(module, n.name)]
                assert not missing, f'{page}: {node.module} has no {missing}'
        for name in re.findall(r"type='mmseg_aml\.(\w+)'", block):
            registries = [v for v in vars(registry).values() if hasattr(v, 'module_dict')]
            found = any(one.get(f'mmseg_aml.{name}') is not None for one in registries)
            assert found, f'{page}: mmseg_aml.{name} is in no registry'
        for base in re.findall(r"_base_ = '[./]*(\w[^']+)'", block):
            known = list(ROOT.glob(f'configs/**/{Path(base).name}'))
            assert known or base == 'my_baseline.py', f'{page}: no {base}'


def test_yaml_blocks_are_studies():
    found = [block for page in PAGES for block in blocks(page, 'yaml')]
    assert found
    for block in found:
        import msgspec

        study = msgspec.convert(yaml.safe_load(block), Study, strict=False)
        for cell in study.cells.values():
            name = cell if isinstance(cell, str) else cell.config
            assert list(ROOT.glob(f'configs/**/{name}.py')), f'no {name}'


def test_tools_page_names_every_tool():
    text = (ROOT / 'docs/tools.md').read_text()
    for path in ROOT.glob('tools/**/*.py'):
        name = path.relative_to(ROOT).as_posix()
        converter = name.endswith('_to_mmseg_aml.py')
        assert converter or name.endswith('prepare_refcoco.py') or f'`{name}`' in text, name
