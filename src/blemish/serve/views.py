"""What the page says: verdicts, times and figures as text. Pure functions of the JSON of the record."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlencode

from blemish.detector import Detector
from blemish.serve.drift import RATE

WORDS = {"good": "Good", "defective": "Defective", "unlike": "Unlike", "not_inspected": "Not inspected"}
SHORT_WORDS = {"good": "good", "defective": "defect", "unlike": "unlike", "not_inspected": "not insp"}
N_STRIP, N_RECENT = 12, 100
QUIET_S = 60.0
"""After so long without a part the page says so; on a slow line after five times the usual time between parts."""
Json = Mapping[str, Any]


def local(time: str | float | datetime) -> datetime:
    """A time (ISO 8601, or s since 1970) in the time zone of the service's machine."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return time.astimezone() if isinstance(time, datetime) else datetime.fromtimestamp(time).astimezone()


def clock(time: str | float) -> str:
    """Hours, minutes, seconds."""
    return f"{local(time):%H:%M:%S}"


def moment(time: str | float) -> str:
    """Date and time; of today only the time."""
    when = local(time)
    return f"{when:%H:%M:%S}" if when.date() == datetime.now().date() else f"{when:%Y-%m-%d %H:%M:%S}"


def zone() -> str:
    """Name of the time zone of the service's machine."""
    return local(datetime.now()).tzname() or "local time"


def span(seconds: float) -> str:
    """A duration in the largest unit that fits."""
    for unit_s, name, most_s in ((1, "s", 60), (60, "min", 3600), (3600, "h", 172_800)):
        if seconds < most_s:
            return f"{max(0, int(seconds / unit_s))} {name}"
    return f"{int(seconds / 86400)} days"


def duration(ms: float | None) -> str:
    """Milliseconds, or seconds if they are many."""
    if ms is None:
        return "–"
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def part_view(row: Json) -> dict[str, Any]:
    """The JSON of a verdict with what the templates say of it in words."""
    score, threshold = row["score"], row["threshold"]
    texts = ["" if each is None else scale(each, score, threshold) for each in (score, threshold)]
    reasons = list(row["unlike"] or ())
    why = row["reason"] or "; ".join(reasons)
    review = row.get("review")
    return {
        **row, "score_text": texts[0], "threshold_text": texts[1], "why": why, "ms_text": duration(row["ms"]),
        "review_text": "" if not review else "defective" if review["is_defective"] else "good",
    }  # fmt: skip


def shares(counts: Json) -> dict[str, Any]:
    """Share of parts that are not good, and which they are, from numbers by verdict."""
    n = sum(counts.values())
    bad = {verdict: counts.get(verdict, 0) for verdict in WORDS if verdict != "good" and counts.get(verdict)}
    n_bad = sum(bad.values())
    named = ", ".join(f"{count} {WORDS[verdict].lower()}" for verdict, count in bad.items())
    parts = "1 part" if n == 1 else f"{n} parts"
    return {
        "n": n,
        "share": percent(n_bad, n),
        "parts": parts,
        "breakdown": named or ("all good" if n else "no part"),
    }


def percent(n_bad: int, n: int) -> str:
    """A share as text, which is 0 or 100 only if it is none or all of them."""
    if not n:
        return "–"
    share = 100 * n_bad / n
    if 0 < n_bad < n:
        share = min(max(share, 0.1), 99.9)
    return f"{share:.1f} %" if 0 < share < 10 or 99 < share < 100 else f"{share:.0f} %"


def latency(rows: Sequence[Json]) -> dict[str, str]:
    """Typical and longest time of these parts, from the arrival of the photograph to the verdict."""
    times = [row["ms"] for row in rows if row["ms"] is not None]
    if not times:
        return {"typical": "–", "worst": "no part"}
    return {"typical": duration(statistics.median(times)), "worst": f"longest {duration(max(times))}"}


def quiet_after_s(rows: Sequence[Json]) -> float:
    """After how many seconds without a part the page says so, from the times between the last ones."""
    times = [local(row["time"]).timestamp() for row in rows]
    gaps = [abs(later - earlier) for later, earlier in pairwise(times)]
    return max(QUIET_S, 5 * statistics.median(gaps)) if gaps else QUIET_S


def counts_of(rows: Sequence[Json]) -> dict[str, int]:
    """Numbers by verdict."""
    return {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in WORDS}


def review_choices(verdict: str) -> tuple[dict[str, str], dict[str, str]]:
    """The buttons of a review: to agree with the verdict, and to disagree.

    What is unlike counts as rejected: to agree with that says that the part is defective. Of what was not inspected
    there is no verdict to agree with.
    """
    good = {"value": "no", "style": "good", "means": "it is good"}
    bad = {"value": "yes", "style": "defective", "means": "it is defective"}
    if verdict == "not_inspected":
        seen = "I looked at the part"
        return {"word": "Defective", **bad, "means": seen}, {"word": "Good", **good, "means": seen}
    agree, disagree = (good, bad) if verdict == "good" else (bad, good)
    return {"word": "Agree", **agree}, {"word": "Disagree", **disagree}


def shares_pair(counts: Json) -> tuple[int, int]:
    """Number of parts, and of those that are not good, from numbers by verdict."""
    n = sum(counts[verdict] for verdict in WORDS)
    return n, n - counts["good"]


def query(**values: object) -> str:
    """The end of an address, without what is empty."""
    return urlencode({name: value for name, value in values.items() if value})


def unquoted(text: str) -> str:
    """A name from a cookie, where it has to be ASCII."""
    return unquote(text)[:100]


def names(products: Sequence[Json], *more: str) -> list[str]:
    """Names of products to choose from."""
    return sorted({product["name"] for product in products} | {name for name in more if name})


def scale(value: float, *others: float | None) -> str:
    """A score or threshold as text, with as many digits as tell it from others."""
    for digits in (3, 4, 6):
        text = f"{value:#.{digits}g}".rstrip(".")
        if all(other in (None, value) or f"{other:#.{digits}g}".rstrip(".") != text for other in others):
            return text
    return f"{value:.9g}"


def drift(states: Sequence[Json] | None) -> dict[str, Any]:
    """How the charts of drift stand, in a word and a sentence; None is unknown."""
    if states is None:
        return {"word": "–", "text": "not watched", "is_alarm": False}
    alarms = [state["text"] for state in states if state["alarm"]]
    if alarms:
        return {"word": "Drift", "text": "; ".join(alarms), "is_alarm": True}
    return {"word": "None", "text": RATE, "is_alarm": False}


def health_items(health: Json, storage_fault: str | None) -> list[dict[str, Any]]:
    """What is well and what is not, each in a few words."""
    n_unwritten = health["not_yet_written"]
    is_written = not any("record" in fault for fault in health["faults"])
    items = [(is_written, "Database" if is_written else f"Database is away, {n_unwritten} verdicts wait")]
    items.append((storage_fault is None, "Pictures" if storage_fault is None else f"No pictures: {storage_fault}"))
    for output in health["outputs"]:
        n, fault = output["n_waiting"], output["fault"]
        waiting = f", {n} waiting" if n else ""
        items.append((fault is None, output["name"] + waiting + (f": {fault}" if fault else "")))
    items += [(False, fault) for fault in health["faults"] if "record" not in fault]
    items.append((True, f"{health['waiting']} in the queue"))
    return [{"is_ok": is_ok, "text": text} for is_ok, text in items]


def plan_view(plan: Json, parts: Sequence[Json]) -> dict[str, Any]:
    """What a new threshold would mean, in words.

    Parameters
    ----------
    plan : of ``Catalogue.recalibrate``.
    parts : the verdicts that would change, of the record.
    """
    would_be = {each["id"]: each["would_be"] for each in plan["changed"]}
    now, before = plan["threshold"], plan["threshold_before"]
    return {
        **plan, "threshold_text": scale(now, before), "before_text": scale(before, now), "n_changed": len(would_be),
        "is_same": now == before, "expected": repr(float(now)),
        "is_promised": plan["promised_false_rejects"] is not None,
        "parts": [{**part_view(part), "would_be": would_be[part["id"]]} for part in parts],
    }  # fmt: skip


def product_view(product: Json, detector: Detector | None) -> dict[str, Any]:
    """What is served of a product, in words."""
    n = 0 if detector is None else detector.threshold.n_calibration
    width, height = product["size_wh"]
    settings = [("The network sees", f"{width} × {height} px"), ("Least area", f"{product['min_area_px']} px")]
    settings += [("Bits of 16", str(product["bits"]))] if product["bits"] not in (None, 16) else []
    return {
        **product, "threshold_text": scale(product["threshold"]), "n_calibration": n, "settings": settings,
        "state": "Ready" if product["is_ready"] else "Not ready",
        "waiting": f"{product['waiting']} of {product['places']} places taken",
    }  # fmt: skip
