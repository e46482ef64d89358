"""What all tools share: the same names for the same things, and errors in one line.

Example:
    >>> def main(argv=None):
    ...     parser = ToolParser(__doc__)
    ...     parser.add_config()
    ...     config = read_config(parser.parse_args(argv))
    >>> if __name__ == '__main__':
    ...     run(main)

Exit codes: 0 done, 1 done and something is wrong with what was looked at (a leak, a broken data
set), 2 not done. Option names are listed in ``docs/tools.md``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from .engine.checkpoints import CheckpointError
from .engine.nonfinite_hook import NonFiniteError

DEBUG = '--debug'
KNOWN = (OSError, ValueError, ImportError, SyntaxError, CheckpointError, NonFiniteError)
"""Errors whose text says what to mend: of files, settings, packages, checkpoints."""


class ConfigOptions(DictAction):
    """MMEngine's ``--cfg-options``, which also says what a wrong one lacks."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        wrong = [value for value in values or () if '=' not in value]
        if wrong:
            parser.error(f'{option_string}: {wrong[0]!r} is not of the form key.key=value')
        super().__call__(parser, namespace, values, option_string)


class ToolParser(argparse.ArgumentParser):
    """An argument parser whose text is the tool's docstring, and that knows earlier names.

    Args:
        doc: Docstring of the tool, which ends in an example.
        options: Of ``argparse.ArgumentParser``.
    """

    def __init__(self, doc: str | None = None, **options: Any) -> None:
        options.setdefault('description', doc)
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._earlier: dict[str, str] = {}
        self.add_argument(
            DEBUG, action='store_true', default=argparse.SUPPRESS, help='show the trace of an error'
        )

    def add_config(self) -> None:
        """CONFIG and ``--cfg-options``; :func:`read_config` reads both."""
        self.add_argument('config', help='config file, or its name without .py')
        self.add_argument(
            '--cfg-options', nargs='+', action=ConfigOptions, help='override config keys: a.b=value'
        )

    def add_weights(self, **options: Any) -> None:
        """WEIGHTS, a checkpoint of the config."""
        self.add_argument('weights', **{'help': 'checkpoint of that config', **options})

    def add_refer(self) -> None:
        """``--data-root``, ``--dataset``, ``--split``, ``--split-by``: annotations of a split."""
        self.add_argument(
            '--data-root', type=Path, required=True, help='folder with one folder per data set'
        )
        self.add_argument('--dataset', required=True, help='refcoco, refcoco+, refcocog, ...')
        self.add_argument('--split', required=True, help='val, testA, ...')
        self.add_argument('--split-by', help="author of the splits; default: the data set's usual")

    def add_json(self, what: str = 'the results') -> None:
        """``--json``; :func:`write_json` writes it."""
        self.add_argument('--json', type=Path, metavar='FILE', help=f'also write {what} here')

    def renamed(self, earlier: str, name: str) -> None:
        """Accept an option's ``earlier`` name for one more release, with a word about it."""
        self._earlier[earlier] = name

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore
        """As in the base class, after earlier names have become the present ones."""
        return super().parse_known_args(
            [self._present(word) for word in (sys.argv[1:] if args is None else args)], namespace
        )

    def _present(self, word: str) -> str:
        name, equals, value = word.partition('=')
        if name not in self._earlier:
            return word
        present = self._earlier[name]
        print(
            f'{self.prog}: {name} is deprecated and goes in the next release: use {present}',
            file=sys.stderr,
        )
        return present + equals + value


def read_config(args: argparse.Namespace) -> Config:
    """The config that ``args.config`` names, with ``args.cfg_options`` put over it.

    Raises:
        FileNotFoundError: No such file or name; lists similar names.
    """
    from .apis.inferencer import find_config

    config = Config.fromfile(find_config(args.config))
    config.merge_from_dict(args.cfg_options or {})
    return config


def write_json(path: Path | None, content: Any) -> None:
    """Write ``content`` where ``--json`` says; parent folders are made."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


def run(main: Callable[[], Any]) -> None:
    """Run a tool: known errors leave the process with one line and exit code 2.

    With ``--debug`` on the command line, and for errors that are not known ones, Python shows
    the trace. Where a Runner keeps a log file, the trace stands there in any case.
    """
    try:
        code = main()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        kept = keep_trace()
        if DEBUG in sys.argv or not is_known(error):
            raise
        where = f'trace in {kept}' if kept else f'{DEBUG} shows the trace'
        print(f'error: {sentence_of(error)} ({where})', file=sys.stderr)
        sys.exit(2)
    if isinstance(code, int) and code:
        sys.exit(code)


def is_known(error: Exception) -> bool:
    """Whether the text of an error is enough to mend what is wrong."""
    if isinstance(error, KeyError):  # a registry's, or ours: sentences; others are bugs
        return bool(error.args) and ' ' in str(error.args[0])
    if isinstance(error, TypeError):  # a misspelt or missing setting of a registered part
        return 'argument' in str(error) and '()' in str(error)
    return isinstance(error, KNOWN)


def sentence_of(error: Exception) -> str:
    """The text of an error in one line; of one in a worker process, the worker's own."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    lines = [line.strip() for line in text.strip().splitlines()] or [type(error).__name__]
    return lines[-1] if 'Original Traceback' in text else ' '.join(filter(None, lines))


def keep_trace() -> str | None:
    """Append the present trace to the log file of a Runner; its path, if there is one."""
    loggers: list[Any] = list(MMLogger._instance_dict.values())
    for handler in (handler for logger in loggers for handler in logger.handlers):
        if isinstance(handler, logging.FileHandler):
            with open(handler.baseFilename, 'a', encoding='utf-8') as file:
                traceback.print_exc(file=file)
            return handler.baseFilename
    return None
