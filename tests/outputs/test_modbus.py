"""Modbus as a PLC sees it: a real client that reads registers, triggers and acknowledges."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient

from blemish.errors import BlemishError, NotNow
from blemish.outputs.addresses import output_at
from blemish.outputs.delivery import Delivery
from blemish.outputs.modbus import Modbus
from blemish.outputs.registers import (
    ACKNOWLEDGE,
    BUSY,
    CONTROL,
    COUNTS,
    EXPECTED,
    GOOD,
    HEARTBEAT,
    HELD,
    LATEST,
    N_REGISTERS,
    NOT_GOOD,
    READY,
    STATUS,
    TRIGGER,
    UNCLAIMED,
    VALID,
    part_number,
    words,
)
from blemish.record.record import VerdictRecord
from outputs.receivers import add, wait_for


class Plc:
    """A PLC that is connected to a record's Modbus server."""

    def __init__(self, record: VerdictRecord, delivery: Delivery, port: int) -> None:
        self.record, self.delivery = record, delivery
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=20)
        assert self.client.connect()

    def read(self, address: int = 0, count: int = N_REGISTERS) -> list[int]:
        return list(self.client.read_holding_registers(address, count=count, device_id=1).registers)

    @property
    def status(self) -> int:
        return self.read(STATUS, 1)[0]

    def control(self, bits: int) -> None:
        assert not self.client.write_register(CONTROL, bits, device_id=1).isError()

    def number(self, address: int) -> int:
        high, low = self.read(address, 2)
        return (high << 16) + low

    def part_comes(self, number: int, **values: object) -> int:
        """A part is judged, and its verdict shown."""
        n_before = self.number(COUNTS)
        (id_,) = add(self.record, number, **values)
        self.delivery.wake()
        wait_for(lambda: self.number(COUNTS) == n_before + 1)
        return id_


@pytest.fixture
def plc(tmp_path: Path) -> Iterator[Plc]:
    output = output_at("modbus://:0")
    assert isinstance(output, Modbus)
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        add(record, 1)  # of yesterday
        with Delivery(record, [output]) as delivery:
            yield Plc(record, delivery, output.port)


def test_a_part_that_comes_before_the_thread_runs_is_shown(tmp_path: Path) -> None:
    output = output_at("modbus://:0")
    assert isinstance(output, Modbus)
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        delivery = Delivery(record, [output])
        add(record, 1)
        with delivery:
            plc = Plc(record, delivery, output.port)
            wait_for(lambda: plc.number(COUNTS) == 1)


def test_the_latest_verdict_and_the_counts(plc: Plc) -> None:
    wait_for(lambda: plc.read(HEARTBEAT, 1)[0] > 0)
    assert plc.read(LATEST, 10) == [0] * 10  # what came before the start is not shown
    id_ = plc.part_comes(17, score=0.7512, threshold=90_000_000.0)
    assert plc.read(LATEST, 10) == [1, 2, 0, 751, *words(0xFFFFFFFF), 0, id_, 0, 17]
    plc.part_comes(70_000, verdict="good", score=0.25, threshold=0.5)
    plc.part_comes(0, verdict="unlike", part="A-3")
    id_ = plc.part_comes(0, verdict="not_inspected", part=None, score=None, threshold=None)
    assert plc.read(LATEST, 10) == [4, 4, 0, 0, 0, 0, 0, id_, 0, 0]
    assert plc.read(COUNTS, 12) == [0, 4, 0, 1, 0, 1, 0, 1, 0, 1, 0, 4]
    assert plc.read() == list(plc.client.read_input_registers(0, count=N_REGISTERS).registers)
    assert plc.status == READY
    assert plc.record.waiting("modbus") == 0


def test_the_handshake(plc: Plc) -> None:
    plc.part_comes(1)
    assert plc.status == READY
    plc.control(TRIGGER)
    assert plc.status == BUSY
    id_ = plc.part_comes(2, verdict="good", score=0.25)
    assert plc.status == VALID | GOOD
    assert plc.read(HELD, 10) == [2, 1, 0, 250, 0, 500, 0, id_, 0, 2]
    plc.part_comes(3)  # before it is acknowledged: the held one stays
    assert plc.status == VALID | GOOD
    assert plc.read(HELD, 2) == [2, 1]
    assert plc.read(LATEST, 2) == [3, 2]
    assert plc.number(UNCLAIMED) == 2
    plc.control(TRIGGER | ACKNOWLEDGE)
    assert plc.status == 0
    assert plc.read(HELD, 10) == [0] * 10
    plc.control(TRIGGER)  # one that is not taken back is not a new one
    assert plc.status == 0
    plc.control(0)
    assert plc.status == READY
    plc.control(TRIGGER)
    plc.control(0)  # the trigger may be a pulse
    assert plc.status == BUSY
    plc.part_comes(4)
    assert plc.status == VALID | NOT_GOOD


@pytest.mark.parametrize("verdict", ["unlike", "not_inspected"])
def test_only_a_good_part_is_good(plc: Plc, verdict: str) -> None:
    plc.control(TRIGGER)
    plc.part_comes(1, verdict=verdict, score=None)
    assert plc.status == VALID | NOT_GOOD


def test_a_part_that_is_given_up(plc: Plc) -> None:
    plc.control(TRIGGER)
    plc.control(ACKNOWLEDGE)
    assert plc.status == 0
    plc.part_comes(1)
    assert plc.status == 0
    plc.control(0)
    assert plc.status == READY


def test_the_part_that_the_plc_expects(plc: Plc) -> None:
    assert not plc.client.write_registers(EXPECTED, words(70_001)).isError()
    plc.control(TRIGGER)
    plc.part_comes(70_000)  # late, from before
    assert plc.status == BUSY
    plc.part_comes(70_001)
    assert plc.status == VALID | NOT_GOOD
    assert plc.read(HELD + 8, 2) == words(70_001)


def test_what_a_plc_may_not_do(plc: Plc) -> None:
    client = plc.client
    for answer, code in (
        (client.write_register(STATUS, 1), 2),
        (client.write_registers(EXPECTED, [0, 0, 0]), 2),
        (client.read_holding_registers(60, count=5), 2),
        (client.read_coils(0, count=1), 1),
        (client.write_coil(60, True), 1),
    ):
        assert answer.isError()
        assert answer.exception_code == code
    assert plc.status == READY


def test_the_product_of_the_address_is_shown_and_no_other(tmp_path: Path) -> None:
    output = output_at("modbus://127.0.0.1:0/nut")
    assert isinstance(output, Modbus)
    with VerdictRecord.open(str(tmp_path / "record.db")) as record, Delivery(record, [output]) as delivery:
        add(record, 1, product="gasket")
        plc = Plc(record, delivery, output.port)
        plc.part_comes(2, product="nut")
        assert plc.read(LATEST, 2) == [1, 2]
        assert plc.read(LATEST + 8, 2) == [0, 2]


def test_a_port_that_is_taken_is_told_at_the_start(plc: Plc) -> None:
    port = plc.client.comm_params.port
    with pytest.raises(NotNow, match=rf"modbus://127\.0\.0\.1:{port}: cannot listen there \(Address already"):
        output_at(f"modbus://127.0.0.1:{port}").open()
    with pytest.raises(BlemishError, match=r"modbus://192\.0\.2\.1:5020: cannot listen there \(Cannot assign"):
        output_at("modbus://192.0.2.1:5020").open()


def test_a_verdict_is_shown_at_once(plc: Plc) -> None:
    plc.part_comes(1)
    began_s = time.monotonic()
    plc.part_comes(2)
    assert time.monotonic() - began_s < 0.9  # woken, not at the next look into the record


def test_numbers_of_parts() -> None:
    assert [part_number(text) for text in ("17", "0017", "4294967295", "4294967296", "A3", "", None, "²", "-1")] == [
        17, 17, 4294967295, 0, 0, 0, 0, 0, 0
    ]  # fmt: skip
