"""What holds for every tool: help with an example, one name for one thing, errors in one line."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

from mmseg_aml.command_line import ToolParser, is_known, run, sentence_of

ROOT = Path(__file__).resolve().parents[1]
PATHS = [*ROOT.glob('tools/**/*.py'), ROOT / 'demo/image_demo.py']
TOOLS = sorted(path.relative_to(ROOT).as_posix() for path in PATHS)
MINI = 'segformer_r18-mini_1xb8-8e_ref-shapes-64x64'
# A command line of each tool whose first problem is a path that does not exist: ABSENT.
BAD = {
    'demo/image_demo.py': ['x.jpg', 'it', 'ABSENT', 'x.pth'],
    'test.py': ['ABSENT', 'x.pth'],
    'train.py': ['ABSENT'],
    'study.py': ['ABSENT'],
    'predict.py': ['ABSENT', MINI, 'x.pth', '--expressions', 'dog', '--out-dir', 'out'],
    'misc/print_config.py': ['ABSENT'],
    'analysis_tools/analyze_logs.py': ['ABSENT'],
    'analysis_tools/alignment.py': [MINI, 'ABSENT'],
    'analysis_tools/browse_dataset.py': ['ABSENT'],
    'analysis_tools/compare_protocols.py': ['ABSENT', 'x.pth'],
    'analysis_tools/robustness.py': [MINI, 'ABSENT'],
    'analysis_tools/browse_results.py': [
        *('p.json', '--data-root', 'ABSENT', '--dataset', 'refcoco', '--split', 'val')
    ],
    'analysis_tools/score.py': [
        *('p.json', '--data-root', 'ABSENT', '--dataset', 'refcoco', '--split', 'val')
    ],
    'dataset_converters/coco_to_refer.py': [
        *('ABSENT', '--images', 'x', '--to', 'out', '--dataset', 'coco')
    ],
    'dataset_converters/leakage_report.py': ['--train', 'ABSENT', '--eval', 'x.json'],
    'dataset_converters/prepare_data.py': [
        *('convert', 'ABSENT', '--format', 'mdetr', '--to', 'out', '--dataset', 'x')
    ],
    'dataset_converters/prepare_refcoco.py': [
        *('convert', 'ABSENT', '--format', 'mdetr', '--to', 'out', '--dataset', 'x')
    ],
    'dataset_converters/ref_shapes.py': ['ABSENT/file.txt/under'],
    'dataset_converters/train_tokenizer.py': ['ABSENT', 'refcoco', 'out'],
    'model_converters/caris_to_mmseg_aml.py': ['ABSENT', 'out.pth'],
    'model_converters/cut_text_tower.py': ['ABSENT', 'out'],
    'model_converters/detris_to_mmseg_aml.py': ['ABSENT', 'out.pth'],
    'model_converters/lavt_to_mmseg_aml.py': ['ABSENT', 'out.pth'],
    'model_converters/rela_to_mmseg_aml.py': ['ABSENT', 'out.pth'],
    'model_converters/to_onnx.py': [MINI, 'ABSENT', 'x.onnx'],
    'model_converters/publish.py': [MINI, 'ABSENT', 'out', '--licence', 'mit', '--about', 'x'],
}
WITHOUT_FILES = {'write_configs.py', 'write_metafiles.py'}  # they read nothing that a user names


class Parsed(Exception):
    """A command line was parsed; nothing was run."""


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f'tool_{Path(path).stem}', ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def tools() -> dict[str, ModuleType]:
    return {path: load(path) for path in TOOLS}


@pytest.fixture()
def parse_only(monkeypatch) -> list[argparse.ArgumentParser]:
    """Tools stop when their command line is parsed; the parsers."""
    parsers: list[argparse.ArgumentParser] = []
    real = ToolParser.parse_args

    def parse_args(self, args=None, namespace=None):
        parsers.append(self)
        real(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(ToolParser, 'parse_args', parse_args)
    return parsers


def examples(doc: str) -> list[str]:
    """The command lines of a docstring, continued lines joined."""
    joined = doc.replace('\\\n', ' ')
    return re.findall(r'^\s+(python (?:tools|demo)/.*)$', joined, re.MULTILINE)


@pytest.mark.parametrize('path', TOOLS)
def test_help_has_an_example_that_parses(path, tools, parse_only, capsys, monkeypatch):
    module = tools[path]
    with pytest.raises(Parsed if path.endswith('prepare_refcoco.py') else SystemExit) as left:
        module.main(['check', '.'] if path.endswith('prepare_refcoco.py') else ['--help'])
    if left.type is Parsed:
        return  # the earlier name of another tool
    shown = capsys.readouterr().out
    assert left.value.code == 0 and '--debug' in shown
    found = examples(shown)
    assert any(line.startswith(f'python {path}') for line in found), shown
    for line in found:
        words = shlex.split(line)
        with pytest.raises(Parsed):
            tools[words[1]].main(words[2:])


@pytest.mark.parametrize('path', TOOLS)
def test_a_bad_path_is_one_line(path, tools, tmp_path, monkeypatch, capsys):
    name = path.removeprefix('tools/')
    assert (name in BAD) != (name in WITHOUT_FILES)
    if name in WITHOUT_FILES:
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'x.json').write_text('[]')
    absent = tmp_path / 'nowhere'
    absent.mkdir() if name.endswith('ref_shapes.py') else None
    if name.endswith('ref_shapes.py'):
        (absent / 'file.txt').write_text('')
    words = [word.replace('ABSENT', str(absent)) for word in BAD[name]]
    with pytest.raises(SystemExit) as left:
        run(lambda: tools[path].main(words))
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert left.value.code == 2
    assert len(lines) == 1 and lines[0].startswith('error: '), lines
    assert 'nowhere' in lines[0] and lines[0].endswith('(--debug shows the trace)')


def test_one_name_for_one_thing(tools, parse_only):
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for module in tools.values():
        with pytest.raises((Parsed, SystemExit)):
            module.main([])
    parsers = list(parse_only)
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    for parser in parsers:
        for action in parser._actions:
            kind = getattr(action.type, '__name__', action.type)
            for name in action.option_strings or [action.dest]:
                found[name][f'{type(action).__name__} of {kind}'].append(parser.prog)
    different = {name: dict(kinds) for name, kinds in found.items() if len(kinds) > 1}
    assert different.keys() == {'--kinds', '--train'}  # of corruptions, of sentences; of sources
    earlier = {'--output-dir', '--protocols', '--image-dir', '--output', '--checkpoint'}
    assert not (earlier | {'checkpoint', 'root', 'out'}) & found.keys()
    assert {'--json', '--out-dir', '--protocol', 'config', 'weights'} <= found.keys()


@pytest.mark.parametrize(
    ('path', 'words', 'name', 'value'),
    [
        ('analysis_tools/browse_dataset.py', ['c.py', '--output-dir=y'], 'out_dir', Path('y')),
        (
            'analysis_tools/compare_protocols.py',
            ['c.py', 'w.pth', '--protocols', 'original'],
            'protocol',
            ['original'],
        ),
        (
            'dataset_converters/coco_to_refer.py',
            ['a.json', '--images', 'b', '--dataset', 'c', '--out', 'y'],
            'to',
            Path('y'),
        ),
        (
            'dataset_converters/prepare_data.py',
            ['check', '.', '--image-dir', 'y'],
            'images',
            Path('y'),
        ),
    ],
)
def test_earlier_names_still_work_and_say_so(tools, path, words, name, value, capsys):
    args = tools[f'tools/{path}'].parse_args(words)
    assert getattr(args, name) == value
    assert 'is deprecated and goes in the next release: use --' in capsys.readouterr().err


def test_known_errors_and_bugs(monkeypatch, capsys):
    def tool(error: BaseException):
        def main():
            raise error

        return main

    with pytest.raises(SystemExit) as left:
        run(tool(KeyError('no protocol of that name')))
    assert left.value.code == 2
    assert capsys.readouterr().err == 'error: no protocol of that name (--debug shows the trace)\n'
    for bug in (KeyError('key'), AttributeError('x'), RuntimeError('y'), TypeError('int + str')):
        with pytest.raises(type(bug)):
            run(tool(bug))
    with pytest.raises(SystemExit) as left:
        run(tool(KeyboardInterrupt()))
    assert left.value.code == 130
    for result in (None, 0, {'mIoU': 1.0}):
        run(lambda result=result: result)  # returns: the exit code is 0
    with pytest.raises(SystemExit) as left:
        run(lambda: 1)
    assert left.value.code == 1
    monkeypatch.setattr(sys, 'argv', ['tool.py', '--debug'])
    with pytest.raises(ValueError):
        run(tool(ValueError('z')))


def test_sentences_of_errors():
    class Part:
        def __init__(self, size: int) -> None: ...

    with pytest.raises(TypeError) as caught:
        Part(sise=1)  # type: ignore[call-arg]
    assert is_known(caught.value)
    worker = ValueError(
        'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "a.py", line 1\nValueError: image 7.jpg is torn\n'
    )
    assert sentence_of(worker) == 'ValueError: image 7.jpg is torn'
    assert sentence_of(ValueError('one\n  two\n')) == 'one two'


def test_wrong_options_of_a_config(tools, capsys):
    with pytest.raises(SystemExit) as left:
        tools['tools/train.py'].parse_args(['c.py', '--cfg-options', 'model.size'])
    assert left.value.code == 2
    assert "'model.size' is not of the form key.key=value" in capsys.readouterr().err


def test_a_missing_data_folder_ends_in_one_line(tools, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('REF_SHAPES_ROOT', str(tmp_path / 'nowhere'))
    with pytest.raises(SystemExit) as left:
        run(lambda: tools['tools/train.py'].main([MINI]))
    assert left.value.code == 2
    shown = capfd.readouterr()
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'nowhere' in last
    assert 'Traceback' not in shown.out + shown.err
    log = Path(re.search(r'\(trace in (.*)\)$', last)[1])
    assert 'Traceback (most recent call last)' in log.read_text()
