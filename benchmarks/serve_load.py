"""Load on `blemish serve`, on this machine: throughput beside bare `detector.inspect`, overload, kill -9, memory.

    .venv/bin/python benchmarks/serve_load.py throughput DETECTOR IMAGES
    .venv/bin/python benchmarks/serve_load.py overload DETECTOR IMAGES
    .venv/bin/python benchmarks/serve_load.py kill DETECTOR IMAGES --times 20
    .venv/bin/python benchmarks/serve_load.py memory DETECTOR IMAGES --n 20000

``throughput``: bare `detector.inspect` on a list of the files, and the service with --clients that each send the next
photograph when the last is answered (closed loop), in turn --rounds times; then the service at rates from a half to
nine tenths of that, whatever it answers (open loop). ``overload``: twice the rate that it reaches. ``kill``: the
service is killed under load; every photograph that was answered must have its row. ``memory``: of the service and its
decoders over --n photographs. Everything runs on 127.0.0.1. Writes its part of ``results/serve-load.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.data.listing import list_images
from machine import RESULTS, describe

PRODUCT = "part"
START_S, ANSWER_S = 120.0, 120.0
MOST_CONNECTIONS = 512
"""Of the open loop; what would need more is counted as not sent."""


@dataclass
class Served:
    """A service that runs."""

    process: subprocess.Popen[str]
    port: int
    storage: Path

    def rows(self) -> list[tuple[int, str, str]]:
        """Id, verdict and part of all rows."""
        with sqlite3.connect(self.storage / "verdicts.db") as database:
            return list(database.execute("SELECT id, verdict, part FROM verdicts"))

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ANSWER_S)


@contextmanager
def serving(detector: Path, storage: Path, *words: object) -> Iterator[Served]:
    """A service on a free port of this machine."""
    options = ["--product", f"{PRODUCT}={detector}", "--storage", storage, "--port", 0, *words]
    command = [sys.executable, "-m", "blemish", "serve", *map(str, options)]
    with (storage.parent / "serve.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r":(\d+);", line)
            assert found, f"{line} {(storage.parent / 'serve.log').read_text()}"
            yield Served(process, int(found[1]), storage)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@dataclass
class Answers:
    """What came of the photographs that were sent."""

    statuses: Counter[int] = field(default_factory=Counter)
    """By HTTP status; 0 is a connection that broke."""
    verdicts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """From sending to the answer, of those with a verdict."""
    ids: list[int] = field(default_factory=list)
    not_sent: int = 0

    def figures(self) -> dict[str, Any]:
        """Counts, and quantiles of the time to the answer."""
        ms = sorted(1000 * each for each in self.seconds)
        quantile: Callable[[float], float | None] = lambda q: round(ms[int(q * (len(ms) - 1))], 1) if ms else None  # noqa: E731
        return {
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "verdicts": dict(self.verdicts),
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "not_sent": self.not_sent,
        }


class Connection:
    """A connection that is kept, with as little of HTTP as a client needs."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, content: bytes, part: int, answers: Answers) -> None:
        """Send a photograph, and note the answer."""
        start_s = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_S):
                status, body = await self._ask(content, part)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.close()
            answers.statuses[0] += 1
            return
        answers.statuses[status] += 1
        if status == 200:
            row = json.loads(body)
            answers.seconds.append(time.perf_counter() - start_s)
            answers.verdicts[row["verdict"]] += 1
            answers.ids.append(row["id"])

    async def _ask(self, content: bytes, part: int) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(
            f"POST /products/{PRODUCT}/inspect?part={part} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
        )
        writer.write(content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[Connection]:
    each = Connection(port)
    try:
        yield each
    finally:
        each.close()


async def closed_loop(
    port: int, contents: Sequence[bytes], n_clients: int, is_over: Callable[[int], bool], answers: Answers
) -> None:
    """Clients that each send the next photograph when the last is answered, until so many were sent."""
    n_sent = 0

    async def client() -> None:
        nonlocal n_sent
        async with connection(port) as each:
            while not is_over(n_sent):
                n_sent += 1
                await each.send(contents[n_sent % len(contents)], n_sent, answers)
                if answers.statuses[0]:
                    await asyncio.sleep(0.01)

    await asyncio.gather(*(client() for _ in range(n_clients)))


async def open_loop(port: int, contents: Sequence[bytes], per_s: float, seconds: float, answers: Answers) -> None:
    """Photographs at random times, so many a second on average, whatever is answered."""
    idle, running = list[Connection](), set[asyncio.Task[None]]()
    dice, start_s, due_s = random.Random(0), time.perf_counter(), 0.0

    async def one(number: int) -> None:
        each = idle.pop() if idle else Connection(port)
        await each.send(contents[number % len(contents)], number, answers)
        idle.append(each)

    number = 0
    while (due_s := due_s + dice.expovariate(per_s)) < seconds:
        await asyncio.sleep(max(0.0, start_s + due_s - time.perf_counter()))
        number += 1
        if len(running) >= MOST_CONNECTIONS:
            answers.not_sent += 1
            continue
        task = asyncio.create_task(one(number))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    for each in idle:
        each.close()


BARE = """
import sys, time
from blemish.cli import share_cores
share_cores()  # as the service does, or on a busy machine it would be slower for no fault of its own
from blemish.detector import Detector
paths = sys.stdin.read().splitlines()
detector = Detector.load(sys.argv[1])
detector.inspect(paths[:16])
start_s = time.perf_counter()
start_cpu_s = time.process_time()
findings = detector.inspect(paths)
print(len(paths) / (time.perf_counter() - start_s), 1000 * (time.process_time() - start_cpu_s) / len(paths))
"""


def bare(detector: Path, paths: Sequence[Path], n: int) -> tuple[float, float]:
    """Photographs a second, and ms of a core for each, of `detector.inspect` on n files, in a process of its own."""
    names = [str(paths[number % len(paths)]) for number in range(n)]
    command = [sys.executable, "-c", BARE, str(detector)]
    done = subprocess.run(command, input="\n".join(names), stdout=subprocess.PIPE, text=True, check=True)
    per_s, cpu_ms = map(float, done.stdout.split())
    return per_s, cpu_ms


def reached(served: Served, contents: Sequence[bytes], n_clients: int, n: int) -> tuple[float, Answers]:
    """Photographs a second of the closed loop."""
    answers = Answers()
    start_s = time.perf_counter()
    asyncio.run(closed_loop(served.port, contents, n_clients, lambda n_sent: n_sent >= n, answers))
    return sum(answers.statuses.values()) / (time.perf_counter() - start_s), answers


def throughput(arguments: argparse.Namespace, paths: list[Path], contents: list[bytes], folder: Path) -> Any:
    rounds = list[dict[str, Any]]()
    with serving(arguments.detector, folder / "storage", *arguments.serve) as served:
        reached(served, contents, arguments.clients, 32)
        for _ in range(arguments.rounds):
            bare_per_s, bare_cpu_ms = bare(arguments.detector, paths, arguments.n)
            before_s, before_client_s = cpu_s(served.process.pid), time.process_time()
            per_s, answers = reached(served, contents, arguments.clients, arguments.n)
            rounds.append({
                "bare_per_s": round(bare_per_s, 2), "service_per_s": round(per_s, 2),
                "share": round(per_s / bare_per_s, 3), "bare_cpu_ms": round(bare_cpu_ms, 1),
                "service_cpu_ms": round(1000 * (cpu_s(served.process.pid) - before_s) / arguments.n, 1),
                "client_cpu_ms": round(1000 * (time.process_time() - before_client_s) / arguments.n, 1),
                **answers.figures(),
            })  # fmt: skip
            print(json.dumps(rounds[-1]), flush=True)
        usual = statistics.median(each["service_per_s"] for each in rounds)
        opened = list[dict[str, Any]]()
        for share in (0.5, 0.7, 0.9):
            answers = Answers()
            asyncio.run(open_loop(served.port, contents, share * usual, arguments.seconds, answers))
            opened.append({"share": share, "per_s": round(share * usual, 2), **answers.figures()})
            print(json.dumps(opened[-1]), flush=True)
    share = round(statistics.median(each["share"] for each in rounds), 3)
    return {"share_of_bare": share, "clients": arguments.clients, "n": arguments.n, "closed": rounds, "open": opened}


def overload(arguments: argparse.Namespace, paths: list[Path], contents: list[bytes], folder: Path) -> Any:
    with serving(arguments.detector, folder / "storage", *arguments.serve) as served:
        per_s, _ = reached(served, contents, arguments.clients, arguments.n)
        n_before = len(served.rows())
        answers = Answers()
        asyncio.run(open_loop(served.port, contents, 2 * per_s, arguments.seconds, answers))
        code = served.stop()
        rows = served.rows()
    n_verdicts = sum(answers.verdicts.values())
    ids = {number for number, _, _ in rows}
    return {
        "reached_per_s": round(per_s, 2), "sent_per_s": round(2 * per_s, 2), **answers.figures(),
        "rows": len(rows) - n_before, "answered_without_a_row": sum(number not in ids for number in answers.ids),
        "rows_without_an_answer": len(rows) - n_before - n_verdicts, "exit_code": code,
    }  # fmt: skip


async def until_killed(
    served: Served, contents: list[bytes], n_clients: int, after_s: float, answers: Answers
) -> None:
    """Load on a service, which is killed after so long."""
    asyncio.get_running_loop().call_later(after_s, served.process.kill)
    await closed_loop(served.port, contents, n_clients, lambda _: served.process.poll() is not None, answers)


def kill(arguments: argparse.Namespace, paths: list[Path], contents: list[bytes], folder: Path) -> Any:
    """Kill it under load, again and again, on one record."""
    kills = list[dict[str, int]]()
    ids, dice = list[int](), random.Random(0)
    for after_s in (dice.uniform(0.5, 3.0) for _ in range(arguments.times)):
        with serving(arguments.detector, folder / "storage", *arguments.serve) as served:
            answers = Answers()

            asyncio.run(until_killed(served, contents, arguments.clients, after_s, answers))
            known = {number for number, _, _ in served.rows()}
            ids += answers.ids
            kills.append({"answered": len(answers.ids), "without_a_row": sum(each not in known for each in ids)})
            print(json.dumps(kills[-1]), flush=True)
    return {"times": len(kills), "answered": len(ids), "answered_without_a_row": kills[-1]["without_a_row"],
            "ids_given_twice": len(ids) - len(set(ids)), "kills": kills}  # fmt: skip


def children_of(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in lists for child in children.read_text().split()]


def cpu_s(pid: int) -> float:
    """Time of cores that a process and its children have used, s."""
    total = 0.0
    with suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        total += sum(cpu_s(child) for child in children_of(pid))
    return total


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, MB; what they share counts for each."""
    total = 0
    with suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        total += sum(int(1e6 * memory_mb(child)) for child in children_of(pid))
    return total / 1e6


def memory(arguments: argparse.Namespace, paths: list[Path], contents: list[bytes], folder: Path) -> Any:
    sizes = list[float]()
    with serving(arguments.detector, folder / "storage", "--keep-gb", 1, *arguments.serve) as served:
        for _ in range(20):
            reached(served, contents, arguments.clients, max(1, arguments.n // 20))
            sizes.append(round(memory_mb(served.process.pid)))
            print(sizes[-1], flush=True)
        rows = len(served.rows())
    return {"photographs": rows, "memory_mb": sizes}


MODES = {"throughput": throughput, "overload": overload, "kill": kill, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("detector", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--n", type=int, default=400, help="photographs, in one measurement of the closed loop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the open loop, at most 600")
    parser.add_argument("--times", type=int, default=20, help="that it is killed")
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of `blemish serve`")
    parser.add_argument("--name", help="of this measurement in the results; the mode by default")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve-load.json")
    arguments = parser.parse_args()
    arguments.n, arguments.seconds = min(arguments.n, 100_000), min(arguments.seconds, 600.0)
    paths = list_images(arguments.images, recursive=True)[:500]
    contents = [path.read_bytes() for path in paths]
    with tempfile.TemporaryDirectory() as name:
        result = MODES[arguments.mode](arguments, paths, contents, Path(name))
    before = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    before[arguments.name or arguments.mode] = {**describe(), "photographs_of": arguments.images.name, **result}
    arguments.out.write_text(json.dumps(before, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
