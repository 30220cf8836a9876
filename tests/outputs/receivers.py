"""Receivers to deliver to, as real ones: a web server, a broker; and records with something to deliver."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from blemish.record.record import NewVerdict, VerdictRecord

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def verdict(number: int, product: str = "gasket", **values: Any) -> NewVerdict:
    """A defective part of that number."""
    row: dict[str, Any] = {
        "part": str(number), "name": f"part {number}.png", "verdict": "defective", "score": 0.75, "threshold": 0.5,
        "is_defective": True, "regions": [{"bbox_xyxy": [1, 2, 3, 4], "area_px": 4, "peak": 0.9}],
    }  # fmt: skip
    return NewVerdict(product=product, **row | values)


def add(record: VerdictRecord, *numbers: int, product: str = "gasket", **values: Any) -> list[int]:
    return record.add([verdict(number, product, **values) for number in numbers])


def wait_for(is_so: Callable[[], Any], seconds: float = 60.0) -> None:
    until_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Web:
    """A web server that keeps what was posted and taken; ``answer`` says what it answers."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, Any]], int] = lambda payload: 200
        self.taken: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
                web.headers.append(self.headers)
                web.asked.append(payload)
                status = web.answer(payload)
                if 200 <= status < 300:
                    web.taken.append(payload)
                with suppress(OSError):  # the client has hung up
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def parts(self) -> list[str]:
        """The parts of the verdicts that were taken, in order."""
        return [payload["part"] for payload in self.taken if "part" in payload]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Mosquitto:
    """A broker that can be stopped and started."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port, self.config = free_port(), folder / "mosquitto.conf"
        access = lines or ("allow_anonymous true",)
        kept = "user root", "persistence true", f"persistence_location {folder}/"
        self.config.write_text("\n".join((f"listener {self.port} 127.0.0.1", *kept, *access, "")))
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process.poll() is None
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False

    def stop(self) -> None:
        self.process.terminate()  # it writes what it has not yet sent to its subscribers to a file
        self.process.wait()


@contextmanager
def subscribed(port: int, topic: str = "blemish/#") -> Iterator[list[tuple[str, str]]]:
    """Topics and contents of the messages of a broker, which keeps them for this subscriber while that is away."""
    seen, is_subscribed = list[tuple[str, str]](), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
    client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: is_subscribed.set()
    client.on_message = lambda client, data, message: seen.append((message.topic, message.payload.decode()))
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert is_subscribed.wait(30)
    try:
        yield seen
    finally:
        client.disconnect()
        client.loop_stop()


def parts_of(seen: list[tuple[str, str]], product: str = "gasket") -> list[str]:
    """The parts of a product's verdicts, in the order in which they came."""
    return [json.loads(content)["part"] for topic, content in seen if topic == f"blemish/{product}/verdict"]
