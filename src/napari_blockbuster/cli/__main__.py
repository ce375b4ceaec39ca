"""Run the command line: ``python -m napari_blockbuster.cli``."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
