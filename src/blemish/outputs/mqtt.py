"""Verdicts and events by MQTT 3.1.1, at least once (QoS 1), with a status that tells also of a sudden end."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from blemish.outputs.base import Away, Deliveries, needed
from blemish.record.rows import Message

KEEP_ALIVE_S = 30
"""After one and a half of it without a sign of life the broker publishes the last will."""
TIMEOUT_S, CONNECTION_S = 10.0, 1.0
"""For a message to be acknowledged, and for a connection in each attempt to deliver."""
MOST_PAUSE_S = 30
"""Longest pause between two attempts to connect."""
NOT_IN_TOPICS = re.compile(r"[/+#\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Broker:
    """How a broker is reached."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    is_secure: bool = False
    """By TLS, with the certificates that the system trusts."""


class Mqtt:
    """Publishes each message; it is delivered when the broker has acknowledged it.

    Topics: ``PREFIX/{product}/verdict``, ``PREFIX/{product}/event``, ``PREFIX/event`` (of no product), and
    ``PREFIX/status``, retained: ``online`` or ``offline``.

    Messages that were sent and not acknowledged are not published again when they are delivered again: the library
    sends them itself once it is connected again, in order, and only the acknowledgement is waited for.
    """

    is_live = False

    def __init__(self, name: str, broker: Broker, prefix: str, address: str) -> None:
        self.name, self.broker, self.prefix, self.address = name, broker, prefix, address
        self._client: Any = None
        self._changed = threading.Condition()
        self._is_connected = False
        self._fault = "not connected yet"
        self._sent: dict[int, int] = {}
        """By the id of a message: the number that MQTT knows it by, which is used again after some 65,000 others."""
        self._acknowledged: set[int] = set()
        self._of_status: int | None = None

    def open(self) -> None:
        mqtt = needed("paho.mqtt.client", "paho-mqtt", self.address)
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"blemish-{uuid.uuid4().hex[:12]}")
        broker = self.broker
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.is_secure:
            client.tls_set()
        client.will_set(f"{self.prefix}/status", "offline", qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_connect_fail, client.on_publish = self._on_connect_fail, self._on_publish
        client.reconnect_delay_set(1, MOST_PAUSE_S)
        client.connect_timeout = TIMEOUT_S
        client.connect_async(broker.host, broker.port, KEEP_ALIVE_S)
        client.loop_start()
        self._client = client

    def deliver(self, messages: Sequence[Message]) -> Deliveries:
        self._wait(lambda: self._is_connected, CONNECTION_S)
        for message in messages:
            if message.id not in self._sent:
                content = json.dumps(message.payload).encode()
                self._sent[message.id] = self._client.publish(self._topic(message), content, qos=1).mid
        for message in messages:
            number = self._sent[message.id]
            self._wait(partial(self._acknowledged.__contains__, number), TIMEOUT_S, while_connected=True)
            with self._changed:
                self._acknowledged.discard(number)
            del self._sent[message.id]
            yield message, None

    def close(self) -> None:
        if self._client is None:
            return
        if self._is_connected:
            self._client.publish(f"{self.prefix}/status", "offline", qos=1, retain=True).wait_for_publish(2.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _topic(self, message: Message) -> str:
        product = message.payload.get("product")
        levels = (self.prefix, *([NOT_IN_TOPICS.sub("_", product)] if product else []), message.kind)
        return "/".join(levels)

    def _wait(self, is_so: Callable[[], bool], timeout_s: float, *, while_connected: bool = False) -> None:
        """Wait until something is so; raise Away if it takes too long, or the connection is lost.

        The library connects again by itself, so nothing is gained by a pause before it is waited for again.
        """
        with self._changed:
            self._changed.wait_for(lambda: is_so() or (while_connected and not self._is_connected), timeout_s)
            if not is_so():
                fault = f"no acknowledgement within {timeout_s:g} s" if self._is_connected else self._fault
                raise Away(f"{self.address}: {fault}", pause_s=0.0)

    # --- called in the library's thread ------------------------------------------------------------------------

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._set(False, f"the broker refuses the connection ({reason}); check user and password")
            return
        self._of_status = client.publish(f"{self.prefix}/status", "online", qos=1, retain=True).mid
        self._set(True, "")

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._is_connected:
            self._set(False, f"the connection is lost ({reason})")

    def _on_connect_fail(self, client: Any, data: Any) -> None:
        self._set(False, "cannot be reached; check host and port, and that the broker runs")

    def _set(self, is_connected: bool, fault: str) -> None:
        with self._changed:
            self._is_connected, self._fault = is_connected, fault
            self._changed.notify_all()

    def _on_publish(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        if number == self._of_status:
            self._of_status = None
            return
        with self._changed:
            self._acknowledged.add(number)
            self._changed.notify_all()
