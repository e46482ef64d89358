"""Write the configs that are copies of others but for the names of data set and host.

    python tools/write_configs.py

Which copies there are stands in ``configs/copies.yaml``. Each stays a file of its own, so that
every recipe has a name. --check writes nothing and lists the files that differ. Afterwards
``python tools/write_metafiles.py`` lists new ones for ``mim``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec

from mmseg_aml.command_line import ToolParser, run

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
BASE = re.compile(r"(?<=')(?:\.\./)+[^']+(?=\.py')")
DATA = re.compile(r'.+_\d+xb\d+-\d+[ek]_(?P<data>.+)-\d+x\d+')


class Copies(msgspec.Struct, forbid_unknown_fields=True):
    """``configs/copies.yaml``: configs by their path in ``configs``, without ``.py``."""

    data: dict[str, list[str]]
    strategies: dict[str, list[str]]


def read_copies(path: Path = CONFIGS / 'copies.yaml') -> Copies:
    """The table.

    Raises:
        ValueError: If it is not of its form.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Copies)
    except msgspec.MsgspecError as error:
        raise ValueError(f'{path}: {error}') from error


def data_of(name: str) -> str:
    """The data set in a config's name.

    Raises:
        ValueError: If there is none.
    """
    found = DATA.fullmatch(Path(name).name)
    if found is None:
        raise ValueError(f'{name}: no data set in this name, see tools/write_metafiles.py')
    return found['data']


def for_data(text: str, source: str, data: str) -> str:
    """A config's text, or its name, with another data set."""
    return re.sub(rf'(?<=[/_]){re.escape(source)}(?=[-_]\D*\d+x\d+)', data, text)


def copy_for_data(name: str, text: str, data: str) -> tuple[str, str]:
    """Name and text of a config for another data set: its bases are those of that set."""
    source = data_of(name)
    return for_data(name, source, data), BASE.sub(lambda m: for_data(m[0], source, data), text)


def copy_for_host(name: str, text: str, host: str) -> tuple[str, str]:
    """Name and text of a strategy's config over another host, which is its only base."""
    [base] = BASE.findall(text)
    own = Path(base).name
    return name.replace(own, Path(host).name), BASE.sub(f'../{host}', text)


def contents(copies: Copies, root: Path = CONFIGS) -> dict[Path, str]:
    """Every file that is a copy, with its text.

    Raises:
        FileNotFoundError: If a config that the table names is not there.
        ValueError: If a file is a copy of two.
    """
    files: dict[Path, str] = {}

    def add(name: str, text: str) -> None:
        if (path := root / f'{name}.py') in files:
            raise ValueError(f'{path} is a copy of two configs: mend copies.yaml')
        files[path] = text

    for name, sets in copies.data.items():
        text = read(root, name)
        for data in sets:
            add(*copy_for_data(name, text, data))
    for name, hosts in copies.strategies.items():
        text = read(root, name)
        own = BASE.findall(text)[0].removeprefix('../')
        for host in [own, *hosts]:
            made = copy_for_host(name, text, host)
            if host != own:
                add(*made)
            for data in copies.data.get(host, []):
                add(*copy_for_data(*made, data))
    return files


def read(root: Path, name: str) -> str:
    """Text of a config that is written by hand."""
    path = root / f'{name}.py'
    if not path.is_file():
        raise FileNotFoundError(f'copies.yaml names {name}, but there is no {path}')
    return path.read_text(encoding='utf-8')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(__doc__)
    parser.add_argument('--check', action='store_true', help='only list what differs')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Write what differs; with --check, 1 if something does."""
    args = parse_args(argv)
    files = contents(read_copies())
    differ = [
        path
        for path, text in files.items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    for path in differ:
        print(f'{"differs" if args.check else "wrote"}: {path.relative_to(CONFIGS.parent)}')
        if not args.check:
            path.write_text(files[path], encoding='utf-8')
    print(f'{len(files)} copies, {len(differ)} {"differ" if args.check else "written"}')
    return int(args.check and bool(differ))


if __name__ == '__main__':
    run(main)
