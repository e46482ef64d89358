"""The earlier name of prepare_data.py; see there."""

import runpy
import sys
from pathlib import Path

main = runpy.run_path(str(Path(__file__).with_name('prepare_data.py')))['main']

if __name__ == '__main__':
    sys.exit(main())
