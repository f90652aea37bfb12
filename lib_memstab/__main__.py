"""Entry point of `python -m lib_memstab`."""

import sys

from lib_memstab.cli import main

sys.exit(main())
