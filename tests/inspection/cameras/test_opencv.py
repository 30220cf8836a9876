"""OpenCV's cameras, against a real stream: motion JPEG over HTTP, as many network cameras send it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.inspection.cameras import camera as camera_module
from blemish.inspection.cameras import open_camera

RED_GREEN_BLUE = (200, 100, 30)


def jpeg(grey: int) -> bytes:
    image = np.full((64, 64, 3), RED_GREEN_BLUE[::-1], np.uint8)
    image[32:] = grey
    return cv2.imencode(".jpg", image)[1].tobytes()


@contextmanager
def server(port: int, n_frames: int = 10_000) -> Iterator[int]:
    """Send so many frames, 50 a second, to whoever asks; then end the connection."""
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for number in range(n_frames):
                data = jpeg(number % 250)
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                try:
                    self.wfile.write(head + data + b"\r\n")
                except OSError:
                    return
                if is_over.wait(0.02):
                    return

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield http.server_address[1]
        finally:
            is_over.set()
            http.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_stream_comes_in_colour() -> None:
    stop = threading.Event()
    with server(free_port()) as port, open_camera(f"http://127.0.0.1:{port}/") as camera:
        photographs = (photograph for photograph in camera.frames(stop) if photograph is not None)
        for number in range(1, 6):
            photograph = next(photographs)
            assert photograph.label == f"http://127.0.0.1:{port}/#{number}"
            np.testing.assert_allclose(photograph.read()[8, 8], RED_GREEN_BLUE, atol=6)


def test_a_server_that_is_stopped_and_started_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "FIRST_PAUSE_S", 0.05)
    port, lines, states = free_port(), list[str](), list[str]()
    address = f"http://127.0.0.1:{port}/"
    with ExitStack() as old, ExitStack() as new:
        old.enter_context(server(port))
        camera = new.enter_context(open_camera(address, tell=lines.append))
        n_frames = 0
        for photograph in camera.frames(threading.Event()):
            n_frames += photograph is not None
            if n_frames == 5 and not states:
                states.append(camera.state)
                old.close()
            if len(lines) == 1 and len(states) == 1:
                states.append(camera.state)
                new.enter_context(server(port))
                n_frames = 0
            if len(lines) == 2 and n_frames >= 5:
                break
        gone, back = lines
    assert gone.startswith(f"{address}: gone (sends no more frames); nothing is inspected until it is back")
    assert back.startswith(f"{address}: back after")
    assert [state[:10] for state in states] == ["running", "gone since"]


@pytest.mark.parametrize("address", ["77", "http://127.0.0.1:9/"])
def test_what_is_not_there_is_one_line(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BlemishError, match=rf"{address}: cannot be opened; check the address"), open_camera(address):
        pass
    assert capfd.readouterr().err == ""
