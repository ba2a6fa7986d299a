"""Several lists of rows in one process: importing takes 20 s to two minutes on a slow host.

    python benchmarks/memory/session.py --out FOLDER --seconds 240 memory=engine time=third

Each list gets what time is left, in the order given; ``memory=engine:150`` ends after 150 s of all.
Rows go to FOLDER/memory.jsonl and FOLDER/time.jsonl as they come, and rows that are there are
skipped, so the same command goes on where it stopped. ``merge.py`` takes them over.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main() -> int:
    """Fill the lists; 0 also when time ran out."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("lists", nargs="+", help="memory=NAME[:SECONDS] or time=NAME[:SECONDS]")
    options = parser.parse_args()
    import _lists
    import _time_configs
    import grid
    import time_grid

    print(f"imported after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    for one in options.lists:
        kind, _, wanted = one.partition("=")
        name, _, limit = wanted.partition(":")
        end = began + min(float(limit or options.seconds), options.seconds)
        path = options.out / f"{kind}.jsonl"
        if kind == "memory":
            grid.fill(path, _lists.rows_of(name), end, tiny=options.tiny)
        elif kind == "time":
            time_grid.fill(path, _time_configs.rows_of(name), end, tiny=options.tiny)
        else:
            parser.error(f"'{one}' is neither memory=NAME nor time=NAME")
        print(f"{one} over after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
