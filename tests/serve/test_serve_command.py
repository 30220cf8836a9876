"""``blemish serve`` as a process: it starts, drains when it is told to end, and loses nothing when it is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import chdir, contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import httpx
import pytest
from services import DEFECTIVE, GOOD, WAIT_S, wait_for

from blemish.cli import main
from blemish.detector import Detector
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.record.record import VerdictRecord
from blemish.runtimes.torch import TorchRuntime
from blemish.thresholds import Threshold


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that has learned nothing."""
    widths = {"reconstructive_widths": (4, 4), "discriminative_widths": (4, 4)}
    settings = DRAEMSettings(image_size_px=16, score_window_px=5, **widths)
    path = tmp_path_factory.mktemp("detector") / "detector.blemish"
    Detector(TorchRuntime(DRAEM(settings)), Threshold(0.5, 0.01, 0, 99), 0.5, (), {}).save(path)
    return path


@contextmanager
def serving(folder: Path, *words: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """A service in a process of its own, on a port that is free."""
    options = ["--storage", folder, "--port", 0, *words]
    command = [sys.executable, "-m", "blemish", "serve", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"serving on (http://\S+);", said)):
            said += process.stdout.readline()
            assert process.poll() is None, said
        with httpx.Client(base_url=found[1], timeout=WAIT_S) as http:
            yield process, http
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def send(http: httpx.Client, content: bytes = GOOD) -> httpx.Response:
    headers = {"Content-Type": "image/png"}
    return http.post("/products/gasket/inspect", content=content, headers=headers)


def rows(folder: Path) -> list[dict[str, object]]:
    with VerdictRecord.open(str(folder / "verdicts.db")) as record:
        return record.verdicts(limit=1000)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_judged_before_it_ends(detector: Path, tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "--product", f"gasket={detector}") as (process, http), ThreadPoolExecutor(32) as pool:
        assert send(http).status_code == 200
        reading = pool.submit(lambda: httpx.get(f"{http.base_url}/events", timeout=WAIT_S).status_code)
        wait_for(lambda: http.get("/health").json()["readers"] == 1)
        answers = [pool.submit(send, http, DEFECTIVE) for _ in range(30)]
        wait_for(lambda: any(answer.done() for answer in answers))
        process.send_signal(number)
        assert process.wait(WAIT_S) == 0
        assert reading.result() == 200
        ids = {answer.result().json()["id"] for answer in answers if ended_well(answer)}
        assert process.stdout is not None
        said = process.stdout.read()
        assert "stopped; what was accepted is recorded" in said
        assert "Traceback" not in said
    recorded = {row["id"] for row in rows(tmp_path)}
    assert ids <= recorded
    assert len(recorded) == len(ids) + 1


def ended_well(answer: Future[httpx.Response]) -> bool:
    """Whether it has a verdict; a photograph that came too late is refused, or its connection is."""
    error = answer.exception(WAIT_S)
    assert error is None or isinstance(error, httpx.TransportError)
    assert error is not None or answer.result().status_code in (200, 503)
    return error is None and answer.result().status_code == 200


def test_every_answered_photograph_has_its_row_after_a_kill(detector: Path, tmp_path: Path) -> None:
    ids = set[int]()
    for _ in range(3):
        with serving(tmp_path, "--product", f"gasket={detector}") as (process, http), ThreadPoolExecutor(8) as pool:

            def load(process: subprocess.Popen[str] = process, http: httpx.Client = http) -> set[int]:
                answered = set[int]()
                try:
                    while True:
                        answer = send(http, DEFECTIVE)
                        if answer.status_code == 200:
                            answered.add(answer.json()["id"])
                        if len(answered) > 5 and process.poll() is None:
                            process.kill()
                except httpx.TransportError:
                    return answered

            for loading in [pool.submit(load) for _ in range(8)]:
                ids |= loading.result(WAIT_S)
            assert process.wait(WAIT_S) == -signal.SIGKILL
    recorded = {row["id"] for row in rows(tmp_path)}
    assert len(ids) > 15
    assert ids <= recorded


def test_its_decoders_end_with_it(detector: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--product", f"gasket={detector}") as (process, http):
        assert send(http).status_code == 200
        children = [int(name) for path in Path(f"/proc/{process.pid}/task").glob("*/children")
                    for name in path.read_text().split()]  # fmt: skip
        assert len(children) >= 2
        process.kill()
        process.wait()
        wait_for(lambda: not any(is_alive(child) for child in children))


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def ended(words: list[str], folder: Path) -> tuple[int, str]:
    """The exit code of the command, and what it says on standard error."""
    command = [sys.executable, "-m", "blemish", "serve", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=folder)
    return done.returncode, done.stderr


def ended_here(words: list[str], folder: Path) -> tuple[int, str]:
    """The same in this process, which saves some seconds: for what is refused before anything is started."""
    with redirect_stderr(StringIO()) as errors, chdir(folder), pytest.raises(SystemExit) as end:
        main(["serve", *words])
    return int(end.value.code or 0), errors.getvalue()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--product", "gasket"], "--product gasket: should be NAME=DETECTOR"),
        (["--product", "g/a=x"], "--product g/a=x: a name has letters"),
        (["--product", "a=x", "--product", "a=y"], "a is given twice"),
        (["--product", "a=nowhere.blemish"], "nowhere.blemish"),
        ([], "--product: nothing is to be served"),
        (["--product", "a=x", "--host", "0.0.0.0"], "give it a --token, or set BLEMISH_TOKEN"),
        (["--product", "a=x", "--save", "all"], "--save all: should be none, or some of overlays,images"),
        (["--product", "a=x", "--deadline-ms", "0"], "--deadline-ms 0: should be at least 1"),
        (["--product", "a=x", "--queue", "0"], "--queue 0: should be at least 1"),
        (["--product", "a=x", "--keep-gb", "0"], "--keep-gb 0"),
        (["--product", "a=x", "--db", "mysql://x/y"], "mysql"),
        (["--product", "a=x", "--mqtt", "tcp://x"], "tcp://x"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(words: list[str], text: str, tmp_path: Path) -> None:
    is_refused_late = not words or words[-1] in ("a=nowhere.blemish", "tcp://x")
    code, errors = (ended if is_refused_late else ended_here)(["--storage", "s", "--port", "0", *words], tmp_path)
    assert code == 2, errors
    assert text in errors
    assert errors.count("\n") == 1
    assert errors.startswith("blemish: ")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, errors = ended(["--product", "a=x", "--port", port], tmp_path)
    assert (code, "cannot listen there" in errors) == (75, True)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--port", "99999"], 2, "--port 99999: should be 0 to 65535"),
        (["--token", "Zo\u00eb x"], 2, "--token: should be"),
        (["--db", "postgresql://u:secret@127.0.0.1:1/x"], 75, "127.0.0.1:1/x"),
    ],
)
def test_what_keeps_it_from_serving_is_told(tmp_path: Path, words: list[str], code: int, text: str) -> None:
    words = ["--product", "a=x", *words] + ([] if "--port" in words else ["--port", "0"])
    code_of_end, errors = (ended if "--db" in words else ended_here)(words, tmp_path)
    assert (code_of_end, errors.count("\n")) == (code, 1)
    assert text in errors
    assert "secret" not in errors


def test_a_token_by_the_environment(detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "BLEMISH_TOKEN", "secret")
    with serving(tmp_path, "--product", f"gasket={detector}", "--host", "0.0.0.0") as (_, http):
        url = f"http://127.0.0.1:{http.base_url.port}/products"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer secret"}).status_code == 200
