"""Which address is which output, and what is said of wrong ones: one line, never a password."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.outputs.addresses import output_at, outputs_at, public
from blemish.outputs.csv_file import CsvFile
from blemish.outputs.delivery import Delivery
from blemish.outputs.modbus import Modbus
from blemish.outputs.mqtt import Broker, Mqtt
from blemish.outputs.webhook import Webhook
from blemish.record.record import VerdictRecord
from outputs.receivers import free_port


def test_addresses() -> None:
    broker = output_at("mqtt://li%40ne:p%2Fw@broker.plant:1884/hall-2/line-3")
    assert isinstance(broker, Mqtt)
    assert broker.broker == Broker(host="broker.plant", port=1884, user="li@ne", password="p/w")
    assert (broker.prefix, broker.address) == ("hall-2/line-3", "mqtt://broker.plant:1884/hall-2/line-3")
    secure = output_at("mqtts://[::1]")
    assert isinstance(secure, Mqtt)
    assert secure.broker == Broker(host="::1", port=8883, is_secure=True)
    assert secure.prefix == "blemish"
    plc = output_at("modbus://:502/nut%201")
    assert isinstance(plc, Modbus)
    assert (plc.host, plc.port, plc.product) == ("127.0.0.1", 502, "nut 1")
    hook = output_at("https://user:pass@mes.plant/hook?key=s3cret")
    assert isinstance(hook, Webhook)
    assert hook.address == "https://mes.plant/hook"
    assert isinstance(output_at("csv:/data/verdicts.csv"), CsvFile)
    two = outputs_at(["csv:a", "http://x", "csv:b"], ())
    assert [output.name for output in two] == ["csv", "webhook", "csv-2"]


def test_modbus_shows_a_product_that_is_judged() -> None:
    outputs_at(["modbus://:502/nut", "modbus://:503"], {"nut", "gasket"})
    with pytest.raises(BlemishError, match=r"^modbus://:502/nuts: no such product nuts; give one of gasket, nut$"):
        outputs_at(["modbus://:502/nuts"], {"nut", "gasket"})


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("ftp://user:s3cret@host/x", "ftp://host/x: is no address of an output; give http://HOST"),
        ("mqtt", "mqtt: names no host; it should be mqtt://"),
        ("mqtt://line:s3cret@:1883", "mqtt://:1883: names no host; it should be mqtt://[USER:PASSWORD@]HOST"),
        ("mqtt://line:s3cret@host:port", "mqtt://host:port: is no valid address (in a password, special"),
        ("mqtt://line:s3cret@host:99999", "mqtt://host:99999: is no valid address"),
        ("mqtt://line:s3#cret@host", "mqtt://host: is no valid address"),
        ("mqtt://line:s3c@ret@host/a/#", "mqtt://host/a/: has a sign in its prefix that no topic may have"),
        ("http://user:s3cret@", "http://: names no host; it should be http://HOST[:PORT]/PATH or https://..."),
        ("http://user:s3cret@host/a b", "http://host/a b: has a space in it"),
        ("http://[::1", "http://[::1: is no valid address"),
        ("modbus://host", "modbus://host: names no port; the usual one is 502; it should be modbus://[HOST]:PORT"),
        ("modbus://user:s3cret@host:502", "modbus://host:502: has a user; Modbus knows none"),
        ("csv:", "csv:: names no file; it should be csv:FILE"),
    ],
)
def test_wrong_addresses_are_told_in_a_line(address: str, line: str) -> None:
    with pytest.raises(BlemishError) as error:
        output_at(address)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)
    assert "s3c" not in str(error.value)
    assert "ret@" not in str(error.value)


def test_a_password_with_signs_is_not_shown() -> None:
    assert public("http://user:s3/c?r#e@host:1/path?key=1") == "http://host:1/path"


def test_if_one_output_cannot_work_none_is_left_open(tmp_path: Path) -> None:
    port = free_port()
    outputs = outputs_at([f"modbus://:{port}", f"csv:{tmp_path}"], ())
    with VerdictRecord.open(str(tmp_path / "record.db")) as record:
        with pytest.raises(BlemishError, match="Is a directory"), Delivery(record, outputs):
            pass
        with Delivery(record, outputs_at([f"modbus://:{port}"], ())):
            pass
