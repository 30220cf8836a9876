"""The Modbus registers that a PLC sees, and the handshake by which it is handed one verdict at a time. No network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

N_REGISTERS = 64
STATUS, HEARTBEAT, COUNTS, UNCLAIMED, LATEST, HELD, CONTROL, EXPECTED = 0, 1, 2, 12, 20, 40, 60, 62
"""Addresses, from 0. ``COUNTS``: all parts, then by verdict. ``LATEST`` and ``HELD`` begin a block of a verdict."""
READY, BUSY, VALID, GOOD, NOT_GOOD = 1, 2, 4, 8, 16
"""Bits of ``STATUS``."""
TRIGGER, ACKNOWLEDGE = 1, 2
"""Bits of ``CONTROL``."""
CODES: Mapping[str, int] = {"good": 1, "defective": 2, "unlike": 3, "not_inspected": 4}
"""Of verdicts; 0 is none."""
BLOCK = 10
"""Registers of a verdict: sequence number, code, score x 1000, threshold x 1000, id, part; two registers each but the
first two, the high one first."""

State = Literal["ready", "busy", "valid", "released"]


def words(number: float | None) -> list[int]:
    """A number as two registers, high one first; limited to what they hold; None is 0."""
    value = min(max(round(number or 0), 0), 0xFFFFFFFF)
    return [value >> 16, value & 0xFFFF]


def part_number(part: str | None) -> int:
    """The number of a part as a PLC knows it; 0 if it is none, or does not fit into two registers."""
    is_number = part is not None and part.isascii() and part.isdecimal() and len(part) <= 10
    value = int(part) if is_number and part is not None else 0
    return value if value <= 0xFFFFFFFF else 0


def block_of(payload: Mapping[str, Any], sequence: int) -> list[int]:
    """The registers of a verdict, by its JSON."""
    scaled = [words(None if payload[name] is None else 1000 * payload[name]) for name in ("score", "threshold")]
    identity = words(payload["id"] & 0xFFFFFFFF) + words(part_number(payload["part"]))
    return [sequence, CODES[payload["verdict"]], *scaled[0], *scaled[1], *identity]


@dataclass
class Registers:
    """The registers, and who may change them when.

    ready -> (PLC: TRIGGER) -> busy -> (verdict) -> valid -> (PLC: ACKNOWLEDGE) -> released -> (PLC: both off)
    -> ready.
    ACKNOWLEDGE while busy gives the part up: -> released.
    """

    state: State = "ready"
    values: list[int] = field(default_factory=lambda: [READY] + [0] * (N_REGISTERS - 1))

    def beat(self) -> None:
        """Count the heartbeat."""
        self.values[HEARTBEAT] = (self.values[HEARTBEAT] + 1) & 0xFFFF

    def show(self, payload: Mapping[str, Any]) -> None:
        """A verdict has come: show it, and hand it over if the PLC waits for it."""
        values = self.values
        sequence = values[LATEST] % 0xFFFF + 1
        values[LATEST : LATEST + BLOCK] = block = block_of(payload, sequence)
        self._count(COUNTS)
        self._count(COUNTS + 2 * CODES[payload["verdict"]])
        expected = (values[EXPECTED] << 16) + values[EXPECTED + 1]
        if self.state == "busy" and expected in (0, part_number(payload["part"])):
            values[HELD : HELD + BLOCK] = block
            self._go("valid")
        else:
            self._count(UNCLAIMED)

    def write(self, address: int, written: list[int]) -> None:
        """The PLC has written registers from ``address`` on; of ``CONTROL`` and after only."""
        self.values[address : address + len(written)] = written
        triggers, acknowledges = (bool(self.values[CONTROL] & bit) for bit in (TRIGGER, ACKNOWLEDGE))
        if self.state == "ready" and triggers and not acknowledges:
            self._go("busy")
        elif self.state in ("busy", "valid") and acknowledges:
            self.values[HELD : HELD + BLOCK] = [0] * BLOCK
            self._go("released")
        elif self.state == "released" and not triggers and not acknowledges:
            self._go("ready")

    def _go(self, state: State) -> None:
        self.state = state
        result = GOOD if self.values[HELD + 1] == CODES["good"] else NOT_GOOD
        self.values[STATUS] = {"ready": READY, "busy": BUSY, "valid": VALID | result, "released": 0}[state]

    def _count(self, address: int) -> None:
        high, low = self.values[address : address + 2]
        self.values[address : address + 2] = words(((high << 16) + low + 1) & 0xFFFFFFFF)
