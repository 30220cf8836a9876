"""The server: uvicorn, which ends when it is told to, after what was accepted is answered."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import uvicorn

from blemish.serve.app import create_app
from blemish.serve.guard import LOCAL_HOSTS
from blemish.serve.service import Service

KEPT_CONNECTION_S = 75
"""A connection that is not used is closed after so long."""
DRAIN_S = 600
"""Requests that are not answered after so long are given up when it ends."""


class Server(uvicorn.Server):
    """A server of a service; SIGTERM and SIGINT end it, and it returns then as usual."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving on http://{shown}:{port}; stop with Ctrl+C or SIGTERM", flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without raising the signal again at the end, as uvicorn's own does: the exit code is 0."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        earlier = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Accept nothing more; at the second Ctrl+C do not wait either."""
        if not self.should_exit:
            print("blemish: ends when what was accepted is judged", file=sys.stderr, flush=True)
        self._service.stop_accepting()
        super().handle_exit(sig, frame)


def run(service: Service, listeners: Sequence[socket.socket], token: str | None) -> None:
    """Serve on sockets that listen, until SIGTERM or SIGINT."""
    app = create_app(service, token, None if token else LOCAL_HOSTS)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=KEPT_CONNECTION_S,
        timeout_graceful_shutdown=DRAIN_S,
        backlog=1024,
    )
    try:
        Server(config, service).run(sockets=list(listeners))
    finally:
        app.state.page.close()
