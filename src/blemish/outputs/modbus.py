"""A Modbus TCP server that a PLC reads the verdicts from. The registers are those of ``registers.py``."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Sequence
from typing import Any

from blemish.errors import BlemishError, NotNow
from blemish.outputs.base import Deliveries, needed
from blemish.outputs.registers import CONTROL, N_REGISTERS, Registers
from blemish.record.rows import Message

HEARTBEAT_S = 1.0
READS, WRITES = (3, 4, 23), (6, 16, 22, 23)
"""Function codes: holding and input registers are the same ones here; there are no coils."""


class Modbus:
    """Serves registers, under any unit number, to any number of clients.

    Parameters
    ----------
    host, port : where to listen; port 0 takes any that is free (``port`` says which, once it is open).
    product : whose verdicts are shown; None shows those of all.
    """

    is_live = True

    def __init__(self, name: str, host: str, port: int, product: str | None, address: str) -> None:
        self.name, self.host, self.port, self.product, self.address = name, host, port, product, address
        self.registers = Registers()
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._server: Any = None

    def open(self) -> None:
        needed("pymodbus", "pymodbus", self.address)
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it logs each client that hangs up
        try:
            family, _, _, _, place = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:  # the library does not say why it cannot listen
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except PermissionError as error:
            raise BlemishError(
                f"{self.address}: ports below 1024 need the rights for it; choose another, such as 5020, or grant "
                "CAP_NET_BIND_SERVICE"
            ) from error
        except OSError as error:
            kind = NotNow if error.errno == errno.EADDRINUSE else BlemishError
            raise kind(
                f"{self.address}: cannot listen there ({error.strerror or error}); choose another port, or an "
                "address of this machine"
            ) from error
        self._thread = threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10.0)

    def deliver(self, messages: Sequence[Message]) -> Deliveries:
        for message in messages:
            if message.kind == "verdict" and self.product in (None, message.payload["product"]):
                self._loop.call_soon_threadsafe(self.registers.show, message.payload)
            yield message, None

    def close(self) -> None:
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    # --- in the loop's thread: the registers are used there only ------------------------------------------------

    async def _listen(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        shown = SimData(0, count=CONTROL, datatype=DataType.REGISTERS, readonly=True)
        control = SimData(CONTROL, count=N_REGISTERS - CONTROL, datatype=DataType.REGISTERS)
        device = SimDevice(0, [shown, control], action=self._on_request)  # 0 answers for every unit
        self._server = ModbusTcpServer(device, address=(self.host, self.port))
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]
        self._beating = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self.registers.beat()

    async def _on_request(
        self, code: int, start: int, address: int, count: int, current: list[int], written: Any
    ) -> Any:
        """Called by the library before it answers; it sends what is in ``current`` then."""
        from pymodbus.constants import ExcCodes

        if code not in (*READS, *WRITES):
            return ExcCodes.ILLEGAL_FUNCTION
        if written:
            self.registers.write(address, list(written))
        current[:N_REGISTERS] = self.registers.values
        return None

    async def _end(self) -> None:
        self._beating.cancel()
        await self._server.shutdown()
