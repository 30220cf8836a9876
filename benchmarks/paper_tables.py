"""Keep tables that `blemish study table` measured among the results.

    .venv/bin/python benchmarks/paper_tables.py tables/draem-3.json tables/dsr-6.json

Writes `results/table-NAME.json` for each. Run it on the machine that measured them, at the commit that did.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from machine import RESULTS, write


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path)
    for path in parser.parse_args().tables:
        measured = json.loads(path.read_text())
        write(out := RESULTS / f"table-{measured['table']}.json", measured)
        print(out)


if __name__ == "__main__":
    main()
