"""python -m datagen: the same as the console script."""

from __future__ import annotations

import sys

# As commands/edge.py has it: imported here, it would bring what may be interrupted.
_INTERRUPTED = 130


def run() -> None:
    """The command line; Ctrl-C while it is still being loaded is an end like any other."""
    try:
        from datagen.cli import main

        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    run()
