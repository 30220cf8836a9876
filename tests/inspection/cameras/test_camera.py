"""A camera as a source, with a driver whose frames and failures are written down: nothing is lost without a word."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from blemish.errors import BlemishError
from blemish.inspection.cameras import camera as camera_module
from blemish.inspection.cameras import is_camera, open_camera
from blemish.inspection.cameras.camera import N_IDENTICAL, Camera
from blemish.inspection.cameras.driver import Frame, Gone
from blemish.inspection.cameras.numbers import LATE_FRAMES, steps_between
from blemish.inspection.cameras.queue import TOO_SLOW, FrameQueue, photograph_of
from blemish.inspection.sources import Photograph

NOW = datetime(2026, 11, 29, 18, 15, 2, 123456, UTC)


def picture(value: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((8, 9), value, np.uint8)


class Script:
    """A driver that does what is written down, one line a call: a frame, None, or a failure. Then nothing comes."""

    def __init__(self, *lines: Frame | Exception | None, opens: tuple[Exception | None, ...] = ()) -> None:
        self.address, self.is_free_running = "script", True
        self._lines, self._opens = list(lines), list(opens)
        self.n_open = self.n_closed = 0
        self.is_done = threading.Event()

    def open(self) -> None:
        self.n_open += 1
        if self._opens and (failure := self._opens.pop(0)) is not None:
            raise failure

    def read(self) -> Frame | None:
        if not self._lines:
            self.is_done.set()
            time.sleep(0.01)
            return None
        line = self._lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    def close(self) -> None:
        self.n_closed += 1


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "FIRST_PAUSE_S", 0.01)


def taken(camera: Camera, script: Script, wait: bool = False) -> list[Photograph]:
    """All photographs until the script has ended; ``wait``: none is taken before."""
    stop = threading.Event()
    photographs = []
    with camera:
        for photograph in camera.frames(stop):
            if wait:
                assert script.is_done.wait(5)
            if photograph is not None:
                photographs.append(photograph)
            if script.is_done.is_set():
                stop.set()
    return photographs


def frames_numbered(*numbers: int | None) -> Iterator[Frame]:
    return (Frame(picture(index), id=number) for index, number in enumerate(numbers))


def test_frames_come_in_order_with_the_cameras_numbers() -> None:
    script = Script(*frames_numbered(7, 8, 9))
    photographs = taken(Camera(script), script)
    assert [photograph.path for photograph in photographs] == ["script#7", "script#8", "script#9"]
    assert [photograph.read()[0, 0, 0] for photograph in photographs] == [0, 1, 2]
    assert len({photograph.name for photograph in photographs}) == 3
    assert script.n_closed == 1


def test_frames_without_numbers_are_counted() -> None:
    script = Script(*frames_numbered(None, None))
    assert [photograph.path for photograph in taken(Camera(script), script)] == ["script#1", "script#2"]


def test_names_hold_the_time_in_utc() -> None:
    photograph = photograph_of("script", 123, NOW)
    assert photograph.name == "20261129T181502_123456_000123"


def test_numbers_that_are_missing_are_photographs_with_a_fault() -> None:
    script = Script(*frames_numbered(65533, 65535, 3))
    camera = Camera(script)
    photographs = taken(camera, script)
    assert sorted(str(photograph.path) for photograph in photographs) == [
        f"script#{number}" for number in range(65533, 65539)
    ]
    missing = [photograph for photograph in photographs if photograph.fault]
    assert [photograph.path for photograph in missing] == ["script#65534", "script#65536", "script#65537"]
    assert missing[0].fault == "script#65534: never arrived; check cable, network and the camera's packet delay"
    assert (camera.n_missing, camera.n_arrived) == (3, 3)


@pytest.mark.parametrize(
    ("last_id", "next_id", "steps"),
    [
        (1, 2, 1),
        (1, 5, 4),
        (65535, 1, 1),
        (65534, 2, 3),
        (70000, 70001, 1),
        (70000, 1, -69999),
        (5, 4, -1),
        (5, 5, 0),
        (2, 65534, -3),
        (65436, 65405, -31),
    ],
)
def test_steps_of_a_counter(last_id: int, next_id: int, steps: int) -> None:
    assert steps_between(last_id, next_id) == steps


def test_a_counter_that_jumps_back_is_told() -> None:
    script, lines = Script(*frames_numbered(70000, 3, 4)), list[str]()
    photographs = taken(Camera(script, tell=lines.append), script)
    assert [photograph.path for photograph in photographs] == ["script#70000", "script#70001", "script#70002"]
    assert lines == ["script: its numbers start again at 3; frames between may be missing"]


def test_frames_that_arrive_late_are_not_lost() -> None:
    script, lines = (
        Script(*frames_numbered(65533, 65535, 2, 65534, 1, 4, 3, 6, *range(7, 7 + LATE_FRAMES))),
        list[str](),
    )
    camera = Camera(script, tell=lines.append, max_frames=200)
    photographs = taken(camera, script)
    numbers = [int((photograph.path or "").rpartition("#")[2]) for photograph in photographs]
    assert numbers[:8] == [65533, 65535, 65537, 65534, 65536, 65539, 65538, 65541]
    lost = [photograph.path for photograph in photographs if photograph.fault is not None]
    assert lost == ["script#65540"]
    assert sorted(numbers) == [*range(65533, 65542 + LATE_FRAMES)]
    assert (camera.n_missing, lines) == (1, [])


def test_frames_that_are_not_whole_may_have_an_old_number_or_none() -> None:
    broken = [Frame(None, "not inspected: packets are missing", frame_id) for frame_id in (0, 11, 0, 5)]
    whole = [Frame(picture(), id=frame_id) for frame_id in (12, 15, 17)]
    script, lines = Script(broken[1], whole[0], broken[2], broken[3], whole[1], broken[0], whole[2]), list[str]()
    camera = Camera(script, tell=lines.append)
    photographs = taken(camera, script)
    assert [photograph.path for photograph in photographs] == [f"script#{number}" for number in range(11, 18)]
    assert [photograph.fault is None for photograph in photographs] == [False, True, False, False, True, False, True]
    assert (camera.n_missing, camera.n_broken, lines) == (0, 4, [])


def test_frames_that_are_not_whole_are_not_given() -> None:
    script = Script(Frame(None, "not inspected: packets are missing", 1), Frame(picture(), id=2))
    camera = Camera(script)
    broken, whole = taken(camera, script)
    assert broken.fault == "script#1: not inspected: packets are missing"
    with pytest.raises(BlemishError, match="packets are missing"):
        broken.read()
    assert whole.fault is None
    assert camera.n_broken == 1


@pytest.mark.parametrize("bounds", [{"max_frames": 3}, {"max_bytes": 3 * picture().nbytes}])
def test_frames_that_find_no_room_are_told_one_by_one(bounds: dict[str, int]) -> None:
    script = Script(None, *frames_numbered(*range(1, 9)))
    camera = Camera(script, **bounds)
    photographs = taken(camera, script, wait=True)
    assert [photograph.path for photograph in photographs] == [f"script#{number}" for number in range(1, 9)]
    assert [photograph.fault is None for photograph in photographs] == 3 * [True] + 5 * [False]
    assert photographs[3].fault == f"script#4: {TOO_SLOW}"
    assert camera.n_too_slow == 5


def test_a_frame_larger_than_the_bound_fits_alone() -> None:
    queue = FrameQueue("script", 5, 10)
    for number in (1, 2):
        queue.put(photograph_of("script", number, NOW, picture()), number, NOW, picture().nbytes)
    assert [getattr(queue.get(0), "fault", "") for _ in range(2)] == [None, f"script#2: {TOO_SLOW}"]
    assert queue.get(0) is None


def test_frames_that_are_taken_make_room() -> None:
    queue = FrameQueue("script", 5, 2 * picture().nbytes)
    for number in range(1, 7):
        queue.put(photograph_of("script", number, NOW, picture()), number, NOW, picture().nbytes)
        queue.put(photograph_of("script", number, NOW, picture()), number, NOW, picture().nbytes)
        assert [getattr(queue.get(0), "fault", "") for _ in range(2)] == [None, None]
    assert queue.n_too_slow == 0


def test_any_number_of_lost_frames_takes_no_memory() -> None:
    queue = FrameQueue("script", 1, 10)
    for number in range(1000):
        queue.put(photograph_of("script", number, NOW, picture()), number, NOW, picture().nbytes)
    assert len(queue._items) == 2
    assert sum(queue.get(0) is not None for _ in range(1001)) == 1000


def test_none_is_yielded_while_nothing_arrives() -> None:
    script = Script()
    with Camera(script) as camera:
        began_s = time.monotonic()
        assert next(camera.frames(threading.Event())) is None
        assert time.monotonic() - began_s < 1


def test_a_camera_that_is_gone_is_told_once_and_comes_back() -> None:
    failures = (None, Gone("still off"), Gone("still off"), None)
    script = Script(Frame(picture(1), id=5), Gone("unplugged"), Frame(picture(2), id=1), opens=failures)
    lines = list[str]()
    camera = Camera(script, tell=lines.append, patience_s=60)
    photographs = taken(camera, script)
    assert [photograph.path for photograph in photographs] == ["script#5", "script#6", "script#7"]
    faults = [photograph.fault for photograph in photographs]
    assert faults == [None, "script#6: was gone for 0 s; nothing of that time is inspected", None]
    gone, back = lines
    assert gone == "script: gone (unplugged); nothing is inspected until it is back, tried for 60 s"
    assert back == "script: back after 0 s"
    assert script.n_open == 4


def test_a_camera_that_stays_away_is_an_error_after_the_frames_before_it() -> None:
    script = Script(Frame(picture()), Gone("unplugged"), opens=(None, *(Gone("off") for _ in range(100))))
    with Camera(script, tell=lambda line: None, patience_s=0.05) as camera:
        frames = (photograph for photograph in camera.frames(threading.Event()) if photograph is not None)
        assert next(frames).path == "script#1"
        with pytest.raises(BlemishError, match=r"script: gone \(.*\), and not back after 0.05 s; check power"):
            next(frames)


def test_the_state_is_gone_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_module, "FIRST_PAUSE_S", 5.0)
    is_gone = threading.Event()
    with Camera(Script(Gone("off")), tell=lambda line: is_gone.set()) as camera:
        assert camera.state == "running"
        next(camera.frames(threading.Event()))
        assert is_gone.wait(5)
        assert camera.state.startswith("gone since 2")
    assert camera.state == "closed"


def test_no_patience_gives_up_at_once() -> None:
    script, lines = Script(Gone("off")), list[str]()
    with (
        Camera(script, tell=lines.append, patience_s=0) as camera,
        pytest.raises(BlemishError, match=r"gone \(off\), and not back after 0 s"),
    ):
        list(camera.frames(threading.Event()))
    assert (lines, script.n_open) == ([], 1)


def test_a_camera_that_is_not_there_at_the_beginning_is_an_error() -> None:
    script = Script(opens=(Gone("no route"),))
    with pytest.raises(BlemishError, match="script: no route; check the address"), Camera(script):
        pass


@pytest.mark.parametrize("is_free_running", [True, False])
def test_only_a_camera_that_runs_free_can_stall(is_free_running: bool) -> None:
    script, lines = Script(Frame(picture())), list[str]()
    script.is_free_running = is_free_running
    stop = threading.Event()
    with Camera(script, tell=lines.append, stall_s=0.05) as camera:
        began_s = time.monotonic()
        for _ in camera.frames(stop):
            if len(lines) == 2 or time.monotonic() - began_s > 0.5:
                stop.set()
    assert [line.partition(";")[0] for line in lines[:1]] == is_free_running * ["script: gone (no frame for 0.05 s)"]


def test_a_picture_that_stands_still_is_told_once_and_given() -> None:
    still = [Frame(picture(1)) for _ in range(N_IDENTICAL + 3)]
    script, lines = Script(Frame(picture(0)), *still, Frame(picture(2))), list[str]()
    photographs = taken(Camera(script, tell=lines.append, max_frames=99), script)
    assert sum(photograph.fault is None for photograph in photographs) == N_IDENTICAL + 5
    standing, changing = lines
    assert standing.startswith(f"script: the last {N_IDENTICAL} frames are the same in every pixel")
    assert changing == "script: its picture changes again"


def test_what_waits_is_still_given_after_stop() -> None:
    script = Script(*frames_numbered(1, 2, 3))
    stop = threading.Event()
    with Camera(script) as camera:
        frames = camera.frames(stop)
        next(frames)
        assert script.is_done.wait(5)
        stop.set()
        assert [photograph.path for photograph in frames if photograph] == ["script#2", "script#3"]


def test_any_failure_of_a_driver_comes_out_where_frames_are_taken() -> None:
    with Camera(Script(ZeroDivisionError())) as camera, pytest.raises(ZeroDivisionError):
        list(camera.frames(threading.Event()))


@pytest.mark.parametrize(
    "address", ["0", "12", "rtsp://a/b", "HTTPS://a", "udp://@:5000", "aravis", "aravis:Basler-1"]
)
def test_addresses_of_cameras(address: str) -> None:
    assert is_camera(address)


@pytest.mark.parametrize(
    "address", ["", "-1", "²", "folder", "ftp://a", "rtsp://", "aravis:", "file:///a.mkv", "a.mkv"]
)
def test_other_addresses_are_refused_with_the_forms(address: str) -> None:
    with pytest.raises(BlemishError, match=r"is no address of a camera; give one of 0, 1, .*rtsp.*aravis:NAME"):
        open_camera(address)


def test_told_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    line: Callable[[str], None] = Camera(Script()).tell
    line("script: gone")
    assert capsys.readouterr().err == "blemish: script: gone\n"
