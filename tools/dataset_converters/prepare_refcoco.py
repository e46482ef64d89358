"""The earlier name of prepare_data.py, which goes in the next release; see there."""

import runpy
import sys
from pathlib import Path

from mmseg_aml.command_line import run

main = runpy.run_path(str(Path(__file__).with_name('prepare_data.py')))['main']

if __name__ == '__main__':
    print('prepare_refcoco.py is deprecated: use prepare_data.py', file=sys.stderr)
    run(main)
