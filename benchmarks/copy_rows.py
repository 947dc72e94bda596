"""Sample rows into PostgreSQL by the engine's own commit, COPY, with the primary key and the index
of the table on. The database's settings are its defaults, fsync too.

    PYTHONPATH=. python benchmarks/copy_rows.py [--rows 200000] [--rounds 3]

Prints rows/s: commits of one recipe's default shard each, and of one large shard, with everything
that the commit of a packed shard does beside the rows. Target: at least 60,000 rows/s.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from benchmarks.large_catalog import ROWS_PER_SHARD, machine, publish_rows
from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from datagen.settings import load_settings
from tests.servers import start_postgres

_LARGE_SHARD = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(machine())
    settings = load_settings({}, home=Path("unused"))
    server = start_postgres()
    try:
        server.execute("ALTER SYSTEM SET fsync = on")
        server.execute("SELECT pg_reload_conf()")
        server.execute("CREATE DATABASE benchmark")
        catalog = Catalog(server.url("benchmark"))
        migrate(catalog)
        found: dict[int, list[float]] = {ROWS_PER_SHARD: [], _LARGE_SHARD: []}
        for turn in range(arguments.rounds):
            for rows_per_shard, rates in found.items():
                seconds = publish_rows(
                    catalog,
                    settings,
                    name=f"rows-{turn}-{rows_per_shard}",
                    num_rows=arguments.rows,
                    rows_per_shard=rows_per_shard,
                )
                rates.append(arguments.rows / seconds)
        catalog.close()
    finally:
        server.stop()
    for rows_per_shard, rates in found.items():
        print(
            f"{rows_per_shard:>6,} rows a commit: {statistics.median(rates):8,.0f} rows/s "
            f"(of {', '.join(f'{rate:,.0f}' for rate in rates)})"
        )


if __name__ == "__main__":
    main()
