"""Figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from blemish.serve.jobs import Json

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counts verdicts and refusals; asks for everything else when it is read.

    Parameters
    ----------
    state : the health of the service, as JSON; with ``products``.
    """

    def __init__(self, state: Callable[[], Json]) -> None:
        self.registry = CollectorRegistry()
        self.verdicts = Counter(
            "blemish_verdicts", "Photographs by verdict.", ["product", "verdict"], registry=self.registry
        )
        self.refused = Counter(
            "blemish_refused", "Requests that were refused, by HTTP status.", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "blemish_verdict_seconds", "From the arrival of a photograph to its verdict.", ["product"],
            buckets=BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.registry.register(_State(state))

    def take(self, row: Json) -> None:
        """Count a verdict."""
        self.verdicts.labels(row["product"], row["verdict"]).inc()
        if row["ms"] is not None:
            self.seconds.labels(row["product"]).observe(row["ms"] / 1000)

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is as it is at the moment."""

    def __init__(self, state: Callable[[], Json]) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        for name, text, key in (
            ("blemish_ready", "1 if photographs are accepted.", "is_ready"),
            ("blemish_not_yet_written", "Verdicts that wait for the database.", "not_yet_written"),
            ("blemish_decoders_died", "Decoders that crashed or hung.", "decoders_died"),
            ("blemish_picture_bytes", "Size of the pictures that are kept.", "picture_bytes"),
            ("blemish_readers", "Readers of the live feed.", "readers"),
        ):
            yield GaugeMetricFamily(name, text, value=float(state[key]))
        yield _gauge("blemish_waiting", "Photographs that are not recorded yet.", ["product"], [
            ([each["name"]], each["waiting"]) for each in state["products"]
        ])  # fmt: skip
        yield _gauge("blemish_threshold", "Threshold of the score.", ["product", "detector"], [
            ([each["name"], each["detector"]], each["threshold"]) for each in state["products"]
        ])  # fmt: skip
        drift = [(each["name"], chart) for each in state["products"] for chart in each["drift"]]
        text = "CUSUM as a share of its limit; above 1 it alarms, until it is 0."
        yield _gauge("blemish_drift", text, ["product", "chart"], [
            ([name, chart["kind"]], chart["statistic"] / chart["limit"]) for name, chart in drift
        ])  # fmt: skip
        yield _gauge("blemish_drift_alarm", "1 while it alarms.", ["product", "chart"], [
            ([name, chart["kind"]], chart["alarm"]) for name, chart in drift
        ])  # fmt: skip
        yield _gauge("blemish_output_waiting", "Messages that an output has still to deliver.", ["output"], [
            ([each["name"]], each["n_waiting"]) for each in state["outputs"]
        ])  # fmt: skip


def _gauge(name: str, text: str, labels: list[str], values: list[tuple[list[str], Any]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values:
        family.add_metric(label, float(value))
    return family
