"""The tables of figures of a running line: what is saved, cameras, ways to inspect, the service."""

from __future__ import annotations

from statistics import median
from typing import Any

from blemish.compare.papers import sources
from machine import read, table


def saving() -> str:
    """Bytes and milliseconds of each kind of results."""
    rows = read("saving")["rows"]
    return table(
        [{"`--save`": row["save"], "KB a photograph": row["kb"], "ms a photograph": row["ms"]} for row in rows]
    )


def camera() -> str:
    """What became of a camera's frames."""
    names = {"whole": "whole frames", "lost": "20 % of the packets lost", "killed": "switched off for 5 s"}
    return table(
        [
            {"camera": names[name], "seconds": run["seconds"], "rows": run["rows"]}
            | {"judged": run["rows"] - run["verdicts"].get("not inspected", 0)}
            | {"told as not inspected": run["verdicts"].get("not inspected", 0)}
            | {"numbers without a row": run["frames_without_a_row"]}
            | {"MB, first and last": f"{run['memory_mb'][0]}, {run['memory_mb'][-1]}"}
            for name, run in read("camera")["runs"].items()
        ]
    )


def ways() -> str:
    """Scores by every way to inspect the same photographs, as shares of the threshold, and verdicts."""
    rows = dict[str, dict[str, Any]]()
    for each in read("ways")["detectors"]:
        name = f"{method_title(each['method'])}, {each['framing']}"
        for row in each["rows"]:
            of_way = rows.setdefault(row["way"], {"way": row["way"]})
            of_way[f"{name}: largest difference"] = f"{row['largest_difference'] / each['threshold']:.1g}"
            of_way[f"{name}: other verdicts"] = f"{row['other_verdicts']} of {row['n']}"
    return table([*rows.values()])


def service() -> str:
    """Photographs a second of the service beside a bare `inspect`, and how long an answer takes."""
    rows = []
    for name, photographs in (("throughput-good", "good ones"), ("throughput", "a third defective, outlined")):
        run = read("serve-load")[name]
        per_s = [median(each[key] for each in run["closed"]) for key in ("bare_per_s", "service_per_s")]
        answers = {
            f"at {100 * each['share']:.0f} %, ms": f"{each['p50_ms']:.0f}, {each['p99_ms']:.0f}"
            for each in run["open"]
        }
        rows.append(
            {"photographs": photographs, "bare `inspect`, 1/s": f"{per_s[0]:.1f}", "service, 1/s": f"{per_s[1]:.1f}"}
            | {"share, median of 5": f"{run['share_of_bare']:.2f}"} | answers
        )  # fmt: skip
    return table(rows)


def method_title(method: str) -> str:
    """A method's name in print."""
    return {"patchcore": "PatchCore", "combined": "all four joined"}.get(method) or sources()[method].method
