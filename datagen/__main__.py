"""python -m datagen: the same as the console script."""

from __future__ import annotations

from datagen.cli import main

if __name__ == "__main__":
    main()
