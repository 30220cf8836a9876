"""The output at an address."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from blemish.errors import BlemishError
from blemish.outputs.base import Output
from blemish.outputs.csv_file import CsvFile
from blemish.outputs.modbus import Modbus
from blemish.outputs.mqtt import Broker, Mqtt
from blemish.outputs.webhook import Webhook

FORMS = {
    "webhook": "http://HOST[:PORT]/PATH or https://...",
    "mqtt": "mqtt://[USER:PASSWORD@]HOST[:PORT][/PREFIX] or mqtts://...",
    "modbus": "modbus://[HOST]:PORT[/PRODUCT]",
    "csv": "csv:FILE",
}
"""How the addresses look like, by kind of output."""
_KINDS = {"http": "webhook", "https": "webhook", "mqtt": "mqtt", "mqtts": "mqtt", "modbus": "modbus"}
PREFIX = "blemish"
_MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}


def outputs_at(addresses: Iterable[str], products: Collection[str]) -> list[Output]:
    """The outputs at these addresses. Their names are the kinds: ``mqtt``, and ``mqtt-2`` if there is another.

    Parameters
    ----------
    products : that are judged.

    Raises
    ------
    BlemishError
        If an address is wrong, or names another product.
    """
    outputs, counts = list[Output](), Counter[str]()
    for address in addresses:
        output = output_at(address)
        if isinstance(output, Modbus) and output.product not in (None, *products):
            known = ", ".join(sorted(products))
            raise BlemishError(f"{output.address}: no such product {output.product}; give one of {known}")
        counts[output.name] += 1
        if counts[output.name] > 1:
            output.name = f"{output.name}-{counts[output.name]}"
        outputs.append(output)
    return outputs


def output_at(address: str) -> Output:
    """The output at an address (``FORMS``).

    Raises
    ------
    BlemishError
        If no output has such an address. Passwords are not in the message.
    """
    if address.startswith("csv:"):
        path = address.removeprefix("csv:")
        if not path:
            raise _wrong(address, "names no file", "csv")
        return CsvFile("csv", Path(path))
    scheme = address.partition(":")[0].lower()
    kind = _KINDS.get(scheme)
    if kind is None:
        raise BlemishError(f"{public(address)}: is no address of an output; give {'; '.join(FORMS.values())}")
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError:  # whose text may have a part of the password in it
        fault = "is no valid address (in a password, special characters are written as %XX)"
        raise _wrong(address, fault, kind) from None
    if any(sign.isspace() for sign in address):
        raise _wrong(address, "has a space in it", kind)
    if not url.hostname and kind != "modbus":
        raise _wrong(address, "names no host", kind)
    if kind == "mqtt":
        return _mqtt(address, url, port or _MQTT_PORTS[scheme])
    if kind == "modbus":
        return _modbus(address, url, port)
    return Webhook("webhook", address, public(address))


def public(address: str) -> str:
    """An address without user, password and query, which may hold a key."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    authority, slash, path = rest.rpartition("@")[2].partition("/")
    return f"{scheme}://{re.split('[?#]', authority + slash + path, maxsplit=1)[0]}"


def _mqtt(address: str, url: SplitResult, port: int) -> Mqtt:
    prefix = unquote(url.path).strip("/") or PREFIX
    if re.search("[+#\x00]", prefix) or re.search("[?#]", address.rpartition("@")[2]):
        raise _wrong(address, "has a sign in its prefix that no topic may have (+ # ?)", "mqtt")
    user, password = (None if value is None else unquote(value) for value in (url.username, url.password))
    assert url.hostname is not None
    broker = Broker(
        host=url.hostname, port=port, user=user, password=password, is_secure=url.scheme.lower() == "mqtts"
    )
    return Mqtt("mqtt", broker, prefix, public(address))


def _modbus(address: str, url: SplitResult, port: int | None) -> Modbus:
    if port is None:
        raise _wrong(address, "names no port; the usual one is 502", "modbus")
    if url.username is not None:
        raise _wrong(address, "has a user; Modbus knows none", "modbus")
    return Modbus("modbus", url.hostname or "127.0.0.1", port, unquote(url.path).strip("/") or None, public(address))


def _wrong(address: str, fault: str, kind: str) -> BlemishError:
    return BlemishError(f"{public(address)}: {fault}; it should be {FORMS[kind]}")


def addresses_of(
    mqtt: str | None = None, webhook: str | None = None, modbus: str | None = None, csv: str | None = None
) -> list[str]:
    """The addresses that the options of a command give; of a CSV the file, of Modbus also ``[HOST]:PORT`` alone.

    Raises
    ------
    BlemishError
        If an option has the address of another kind.
    """
    if modbus is not None and "://" not in modbus:
        modbus = f"modbus://{modbus}"
    addresses = list[str]()
    for kind, address in (("mqtt", mqtt), ("webhook", webhook), ("modbus", modbus)):
        if address is None:
            continue
        if _KINDS.get(address.partition(":")[0].lower()) != kind:
            raise BlemishError(f"--{kind} {public(address)}: should be {FORMS[kind]}")
        addresses.append(address)
    return [*addresses, *([f"csv:{csv}"] if csv is not None else [])]
