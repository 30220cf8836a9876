"""Make the pictures of the operator's page for the documentation, from the demo's images of bricks.

It trains a detector on them, starts ``blemish serve``, sends parts as a line would, reviews some, and photographs the
page in Chromium. The times of the parts are spread over the last hour, so that the chart has something to show.

    python benchmarks/page_pictures.py --out docs/serve
"""

from __future__ import annotations

import argparse
import random
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from blemish.data.demo_images import make_demo_images

BLEMISH = (sys.executable, "-m", "blemish")
LAPTOP, WALL, TABLET = (1280, 800), (1920, 1080), (768, 1024)
MOST_PX = 1280
"""Longest side of a picture."""
N_GOOD = 70
FALSELY_REJECTED = 32.0
"""Good bricks that are rejected score less, defective ones more."""


@contextmanager
def service(folder: Path, product: str, detector: Path) -> Iterator[str]:
    """A service in a process of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--db", str(folder / "verdicts.db"), "--storage", str(folder / "storage"), "--port", str(port)]
    process = subprocess.Popen([*BLEMISH, "serve", "--product", f"{product}={detector}", *options])
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/v2/health/ready", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the service has ended"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def send(http: httpx.Client, images: Path) -> None:
    """Send good and defective parts in a mixed order, a defective one last."""
    order = random.Random(7)
    defective = sorted(path for path in (images / "test").rglob("*.png") if path.parent.name != "good")
    good = sorted((images / "test" / "good").glob("*.png")) + sorted((images / "calibration").glob("*.png"))
    parts = [*order.sample(good[:10], 10), *order.sample(good[10:], N_GOOD), *defective]
    order.shuffle(parts)
    last = [*order.sample(good[10:], 5), defective[0], *order.sample(good[10:], 4), images / "cut.png", defective[-5]]
    (images / "cut.png").write_bytes(good[0].read_bytes()[:3000])
    for number, path in enumerate([*parts, *last], 1):
        about = {"part": f"K-{4100 + number}", "lot": f"17-{number // 40}"}
        http.post("/products/bricks/inspect", params=about, content=path.read_bytes(),
                  headers={"Content-Type": "image/png"})  # fmt: skip


def review(http: httpx.Client) -> None:
    """Say of rejected parts whether they are good; some wait for a review."""
    rows = http.get("/verdicts", params={"verdict": "defective", "limit": 100}).json()["verdicts"]
    for row in [*rows[1:2], *rows[4:]]:
        is_defective = row["score"] > FALSELY_REJECTED
        note = None if is_defective else "Only the light"
        http.post(f"/verdicts/{row['id']}/review", json={"is_defective": is_defective, "by": "Ann", "note": note})


def spread_times(database: Path, over_s: float = 3300.0) -> None:
    """Set the times of the parts as if they had come one by one."""
    with sqlite3.connect(database, timeout=30) as connection:
        (n,) = connection.execute("SELECT count(*) FROM verdicts").fetchone()
        connection.execute("UPDATE verdicts SET time = ? - (? - id) * ?", (time.time() - 2.0, n, over_s / n))


def take(page: Page, path: Path) -> None:
    """Photograph a page, in 256 colours, once its pictures are there."""
    page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    picture.thumbnail((MOST_PX, MOST_PX), Image.Resampling.LANCZOS)
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/serve"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        images, run = Path(folder) / "images", Path(folder) / "run"
        make_demo_images(images)
        subprocess.run([*BLEMISH, "fit", images / "train" / "good", "--method", "patchcore", "--calibration",
                        images / "calibration", "--out", run], check=True)  # fmt: skip
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        with service(Path(folder), "bricks", run / "detector.blemish") as url, httpx.Client(base_url=url) as http:
            send(http, images)
            review(http)

            def picture(
                name: str,
                path: str,
                size: tuple[int, int],
                scheme: Any = "light",
                prepare: Callable[[Page], Any] = id,
            ) -> None:
                viewport: Any = {"width": size[0], "height": size[1]}
                page = browser.new_page(viewport=viewport, color_scheme=scheme, base_url=url, bypass_csp=True)
                page.goto(path)
                prepare(page)
                take(page, arguments.out / f"{name}.png")
                page.close()

            def with_map(page: Page) -> None:
                page.get_by_text("Judged again: the same score").wait_for()
                page.locator("#show-map").check()
                page.wait_for_timeout(1000)

            def live(page: Page) -> None:
                page.get_by_text("live", exact=True).wait_for()

            def lost(page: Page) -> None:
                live(page)
                page.route("**/now", lambda route: route.abort())
                page.locator("#lost").wait_for()

            spread_times(Path(folder) / "verdicts.db")
            rows = http.get("/verdicts", params={"verdict": "defective", "limit": 2}).json()["verdicts"]
            picture("now", "/", LAPTOP, prepare=live)
            picture("wall", "/", WALL, "dark", prepare=live)
            picture("verdicts", "/parts", TABLET)
            picture("part", f"/parts/{rows[0]['id']}", LAPTOP, prepare=with_map)
            picture("recalibrate", "/recalibrate/bricks", LAPTOP)
            picture("lost", "/", LAPTOP, prepare=lost)
        browser.close()


if __name__ == "__main__":
    main()
