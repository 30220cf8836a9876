"""Aravis's cameras, against a real GigE Vision device: Aravis's fake camera, over the loopback interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from blemish.errors import BlemishError
from blemish.inspection.cameras import aravis, open_camera
from blemish.inspection.cameras import camera as camera_module
from blemish.inspection.cameras.camera import Camera
from blemish.inspection.sources import Photograph

PROGRAM = "arv-fake-gv-camera-0.8"
N_PACKETS_PER_MILLE = 2
"""A frame has some 190 packets, so about a third of the frames are not whole."""


def library_or_skip() -> Any:
    try:
        return aravis.library()[0]
    except BlemishError as error:
        pytest.skip(str(error))


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a fake camera of a serial number, with options; all are ended after the test."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"no {PROGRAM}: install Debian's aravis-tools")
    library_or_skip()
    started = []

    def start(serial: str, *options: str) -> subprocess.Popen[bytes]:
        command = [PROGRAM, "-i", "127.0.0.1", "-s", serial, *options]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(0.3)
        assert started[-1].poll() is None, "its port is taken: another GigE Vision camera answers at 127.0.0.1"
        return started[-1]

    with FileLock(Path(tempfile.gettempdir()) / "blemish_fake_camera.lock"):  # one address, so one camera at a time
        yield start
        for process in started:
            process.kill()
            process.wait()


def taken(camera: Camera, count: int, longest_s: float = 20) -> list[Photograph]:
    stop, photographs, began_s = threading.Event(), list[Photograph](), time.monotonic()
    for photograph in camera.frames(stop):
        if photograph is not None:
            photographs.append(photograph)
        if len(photographs) >= count or time.monotonic() - began_s > longest_s:
            stop.set()
    return photographs


def numbers(photographs: list[Photograph]) -> list[int]:
    return [int(str(photograph.path).partition("#")[2]) for photograph in photographs]


def set_up(serial: str, pixel_format: str, rate_per_s: float = 100) -> None:
    """What the vendor's program would set in the camera."""
    library = library_or_skip()
    library.update_device_list()
    device = library.Camera.new(f"Aravis-Fake-{serial}")
    device.set_pixel_format_from_string(pixel_format)
    device.set_frame_rate(rate_per_s)


def test_frames_arrive_whole_over_the_turn_of_the_counter(start: Start) -> None:
    start("BLEMISH1")
    set_up("BLEMISH1", "Mono8")
    with open_camera("aravis") as camera:
        assert camera.address == "aravis:Aravis-Fake-BLEMISH1"
        photographs = taken(camera, 150)  # the fake camera begins at about 65,400
    assert not [photograph.fault for photograph in photographs if photograph.fault]
    assert numbers(photographs) == list(range(numbers(photographs)[0], numbers(photographs)[0] + len(photographs)))
    assert numbers(photographs)[-1] > 65535
    assert photographs[0].read().shape == (512, 512, 3)
    assert len(np.unique(photographs[0].read())) > 100
    assert camera.n_missing == camera.n_broken == camera.n_too_slow == 0


@pytest.mark.parametrize(
    ("pixel_format", "shape", "dtype"),
    [
        ("Mono16", (512, 512), np.uint16),
        ("BayerRG8", (512, 512, 3), np.uint8),
        ("RGB8", (512, 512, 3), np.uint8),
    ],
)
def test_pixel_formats(start: Start, pixel_format: str, shape: tuple[int, ...], dtype: type) -> None:
    start("BLEMISH2")
    set_up("BLEMISH2", pixel_format)
    with open_camera("aravis:Aravis-Fake-BLEMISH2") as camera:
        image = taken(camera, 2)[0].image
    assert isinstance(image, np.ndarray)
    assert (image.shape, image.dtype) == (shape, dtype)
    assert len(np.unique(image)) > 60


@pytest.mark.parametrize("n_per_mille", [N_PACKETS_PER_MILLE, 200])
def test_frames_with_lost_packets_are_told_and_never_given(start: Start, n_per_mille: int) -> None:
    """Each pixel of a frame of the fake camera is a little brighter than the one before: a gap in it would show."""
    start("BLEMISH3", "-r", str(n_per_mille))
    set_up("BLEMISH3", "Mono8", 50)
    with open_camera("aravis:Aravis-Fake-BLEMISH3") as camera:
        photographs = taken(camera, 40, longest_s=4)
    assert len(photographs) > 10
    assert numbers(photographs) == list(range(numbers(photographs)[0], numbers(photographs)[0] + len(photographs)))
    faults = [photograph.fault for photograph in photographs if photograph.fault is not None]
    assert faults
    assert all("not inspected: " in fault or "never arrived" in fault for fault in faults)
    if n_per_mille == N_PACKETS_PER_MILLE:
        assert any("packets are missing (" in fault for fault in faults)
        assert len(faults) < len(photographs)
    for photograph in photographs:
        if photograph.fault is None:
            image = photograph.read()[..., 0].astype(int)
            assert set(np.unique(np.diff(image) % 256)) <= {1, 2}
    assert camera.n_broken + camera.n_missing == len(faults)


def test_a_camera_that_is_switched_off_and_on_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "FIRST_PAUSE_S", 0.1)
    process, lines, after = start("BLEMISH4"), list[str](), list[Photograph]()
    n_before, began_s, stop = 0, time.monotonic(), threading.Event()
    with open_camera("aravis:Aravis-Fake-BLEMISH4", tell=lines.append, stall_s=0.5) as camera:
        for photograph in camera.frames(stop):
            if photograph is not None and len(lines) < 2:
                n_before += 1
                if n_before == 3:
                    process.kill()
                    process.wait()
            elif photograph is not None:
                after.append(photograph)
            if len(lines) == 1 and process.poll() is not None:
                assert camera.state.startswith("gone since")
                process = start("BLEMISH4")
            if len(after) >= 3 or time.monotonic() - began_s > 30:
                stop.set()
    gone, back = lines
    assert gone.startswith("aravis:Aravis-Fake-BLEMISH4: gone (no frame for 0.5 s); nothing is inspected")
    assert back.startswith("aravis:Aravis-Fake-BLEMISH4: back after")
    away, *others = after
    assert "was gone for" in str(away.fault)
    assert not any(photograph.fault for photograph in others)
    assert camera.state == "closed"


def test_a_name_that_is_not_there_is_told_with_those_that_are(start: Start) -> None:
    start("BLEMISH5")
    with pytest.raises(BlemishError) as caught, open_camera("aravis:Basler-1"):
        pass
    line = str(caught.value)
    assert line.startswith("aravis:Basler-1: Device 'Basler-1' not found; found are Aravis-Fake-BLEMISH5; check")


def test_without_aravis_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == "gi" or name.startswith("gi."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(aravis, "_SYSTEMS_PACKAGES", aravis._SYSTEMS_PACKAGES / "nowhere")
    with suppress(ImportError):
        __import__("gi")
        pytest.skip("gi is installed in this environment")
    with pytest.raises(BlemishError, match=r"aravis: Aravis cannot be used \(No module named 'gi'\); install"):
        open_camera("aravis")


def test_nothing_of_the_system_hides_what_the_environment_has() -> None:
    library_or_skip()
    assert os.fspath(aravis._SYSTEMS_PACKAGES) not in sys.path
