"""Put ``toy_training`` in reach of tests and of the processes they start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
