"""``blemish inspect --save``: files for other programs, and the least area."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet
import pycocotools.coco
import pycocotools.mask
import pytest
import tifffile
from PIL import Image

from blemish.cli import main
from blemish.commands.inspect import inspect_run
from blemish.commands.results import KINDS, Results, Saving, continued
from blemish.commands.watch import Heartbeat
from blemish.data.kinds import kind_of
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.files import LOCK, make_folder
from blemish.inspection.region import RegionOfInterest
from blemish.inspection.sources import find, photographs
from blemish.inspection.stream import judge
from blemish.inspection.watching import key_of

ALL = ",".join(KINDS)


@pytest.fixture
def work(darkness: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good, a defective and a damaged photograph, and a detector of dark spots that needs no file."""
    monkeypatch.setattr(Detector, "load", lambda *arguments: darkness)
    monkeypatch.chdir(tmp_path)
    pixels = np.full((40, 60, 3), 200, np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save("photos/good.png")
    pixels[4:10, 8:12] = pixels[20:30, 30:50] = 0
    Image.fromarray(pixels).save("photos/spots.png")
    Path("photos/torn.png").write_bytes(Path("photos/good.png").read_bytes()[:60])
    return tmp_path


def inspected(save: str = ALL, *paths: str, min_area_px: int | None = None, **options: Any) -> list[dict[str, Any]]:
    saving = Saving.named(save, **options)
    inspect_run(Path("x.blemish"), [Path(path) for path in paths or ("photos",)], Path("out"), "cpu", "auto", saving,
                min_area_px)  # fmt: skip
    return [json.loads(line) for line in Path("out/findings.jsonl").read_text().splitlines()]


def test_everything_says_the_same_as_the_finding(work: Path, darkness: Detector) -> None:
    good, spots, torn = inspected()
    finding = darkness.inspect("photos/spots.png")
    assert [good["verdict"], spots["verdict"], torn["verdict"]] == ["good", "defective", "not inspected"]
    assert (spots["overlay"], spots["map"], spots["mask"]) == (
        "overlays/spots.jpg", "maps/spots.tiff", "masks/spots.png"
    )  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread("out/maps/spots.tiff"), finding.map)
    mask = cv2.imread("out/masks/spots.png", cv2.IMREAD_UNCHANGED) == 255
    np.testing.assert_array_equal(mask, finding.mask)
    assert torn["map"] is None
    lines = [json.loads(line) for line in Path("out/contours.jsonl").read_text().splitlines()]
    assert [(line["path"], len(line["contours"])) for line in lines] == [
        ("photos/good.png", 0), ("photos/spots.png", len(finding.regions))
    ]  # fmt: skip
    coco = pycocotools.coco.COCO("out/findings.coco.json")
    assert [image["file_name"] for image in coco.imgs.values()] == ["photos/good.png", "photos/spots.png"]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [annotation["area"] for annotation in annotations] == [region.area_px for region in finding.regions]
    np.testing.assert_array_equal(sum(coco.annToMask(annotation) for annotation in annotations), finding.mask)
    table = pyarrow.parquet.read_table("out/findings.parquet").to_pylist()
    assert [row["path"] for row in table] == ["photos/good.png", "photos/spots.png", "photos/torn.png"]
    assert table[1]["regions"][0]["bbox_xyxy"] == spots["regions"][0]["bbox_xyxy"]
    assert table[2]["score"] is None


def test_its_own_files_are_called_so(work: Path) -> None:
    Image.open("photos/good.png").save(f"photos/{100 * 'ü'}.png")  # 6 characters each, in JSON
    inspected("all", f"photos/{100 * 'ü'}.png", "photos/spots.png")
    with Results(make_folder(Path("other")), Saving(frozenset())) as results:
        Heartbeat(Path("out/heartbeat.json"), {}).beat(SimpleNamespace(state="running"), results)
    kinds = {path.name: kind_of(path).name for path in Path("out").iterdir() if path.is_file() and path.name != LOCK}
    records = ("contours.jsonl", "findings.coco.json", "findings.csv", "findings.jsonl", "heartbeat.json")
    assert kinds == {**dict.fromkeys(records, "record by blemish"), "findings.parquet": "Parquet file"}
    with pytest.raises(BlemishError, match=r"findings\.csv: is a record by blemish, not a photograph"):
        find([Path("out/findings.csv")])


def test_all_is_a_word_for_everything() -> None:
    assert Saving.named("all", "npy") == Saving.named(ALL, "npy")
    assert Saving.named("all", allowed=("maps", "photographs")).kinds == {"maps", "photographs"}


def test_a_folder_of_pictures_that_was_deleted_is_made_anew(work: Path, darkness: Detector) -> None:
    with Results(Path("out"), Saving()) as results:
        shutil.rmtree("out/overlays")
        results.take(next(judge(darkness, photographs(["photos/spots.png"]), results.record)))
        assert Path("out/overlays/spots.jpg").is_file()
        shutil.rmtree("out")
        with pytest.raises(
            BlemishError, match=r"spots\.jpg: cannot be written, as there is no folder out/overlays; make it"
        ):
            results.record(next(judge(darkness, photographs(["photos/spots.png"]))))


def test_rows_are_continued_in_little_memory(work: Path) -> None:
    row = {"path": "cam#1", "score": 0.1, "verdict": "good", "regions": [], "unlike": [], "note": 900 * "x"}
    Path("out").mkdir()
    with Path("out/findings.jsonl").open("w") as file:
        file.writelines(json.dumps({**row, "path": f"cam#{number}"}) + "\n" for number in range(4000))
        file.write(json.dumps(row | {"path": "photos/good.png", "version": "1-2-3"}) + "\n" + 70_000 * "x")
    tracemalloc.start()
    keys = continued(Path("out"))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert keys == {key_of("photos/good.png", "1-2-3")}
    assert peak_bytes < 1_000_000 < Path("out/findings.jsonl").stat().st_size
    assert Path("out/findings.jsonl").read_text().endswith('"1-2-3"}\n')
    assert len(Path("out/findings.csv").read_text().splitlines()) == 4002


@pytest.mark.parametrize("map_format", ["tiff", "tiff16", "npy"])
def test_results_are_no_photographs_and_are_replaced(
    work: Path, map_format: Any, capsys: pytest.CaptureFixture
) -> None:
    inspected(map_format=map_format)
    capsys.readouterr()
    assert len(inspected(ALL, ".", map_format=map_format)) == 3
    assert "0 left out" in capsys.readouterr().out
    Path("out/maps/mine.npy").write_bytes(b"\x93NUMPY")
    inspected("none", "photos/good.png")
    left = sorted(path.name for path in Path("out").rglob("*") if path.is_file())
    assert left == ["findings.csv", "findings.jsonl", "mine.npy"]


def test_pictures_of_rejects_only(work: Path) -> None:
    good, spots, _ = inspected("overlays,maps", pictures_of_good=False)
    assert (good["overlay"], good["map"]) == (None, None)
    assert spots["overlay"] == "overlays/spots.jpg"


def test_overlays_show_the_region_of_interest(work: Path, darkness: Detector) -> None:
    inspected("overlays", "photos/good.png")
    before = cv2.imread("out/overlays/good.jpg").astype(int)
    region = np.zeros((40, 60), np.bool_)
    region[10:30, 20:50] = True
    darkness.framing = RegionOfInterest.of(darkness.framing, region)
    inspected("overlays", "photos/good.png")
    factor = before.shape[1] // 60
    changes = np.abs(cv2.imread("out/overlays/good.jpg") - before).max(axis=2)[: 40 * factor] > 100
    rows, columns = np.nonzero(changes)
    edges = [rows.min(), rows.max(), columns.min(), columns.max()]
    assert np.abs(np.array(edges) / factor - [10, 30, 20, 50]).max() < 0.5


def test_small_regions_do_not_count(work: Path) -> None:
    _, spots, _ = inspected("masks")
    areas_px = sorted(region["area_px"] for region in spots["regions"])
    assert len(areas_px) == 2
    _, spots, _ = inspected("masks", min_area_px=areas_px[0] + 1)
    assert [region["area_px"] for region in spots["regions"]] == areas_px[1:]
    assert (cv2.imread("out/masks/spots.png", 0) == 255).sum() == areas_px[1]
    _, spots, _ = inspected("masks", min_area_px=areas_px[1] + 1)
    assert (spots["verdict"], spots["is_defective"], spots["regions"]) == ("good", False, [])
    assert spots["score"] > spots["threshold"]


def test_every_row_says_the_least_area(work: Path) -> None:
    for min_area_px in (0, 10_000):
        assert [row["min_area_px"] for row in inspected("parquet", min_area_px=min_area_px)] == 3 * [min_area_px]
        table = pyarrow.parquet.read_table("out/findings.parquet").to_pylist()
        assert [row["min_area_px"] for row in table] == 3 * [min_area_px]
        header, *lines = Path("out/findings.csv").read_text().splitlines()
        assert header.endswith(",detector,min_area_px")
        assert all(line.endswith(f",{min_area_px}") for line in lines)


def test_the_reasons_in_parquet_are_those_of_the_rows(work: Path, darkness: Detector) -> None:
    darkness.likeness = SimpleNamespace(reasons=lambda image, size_hw: ["dark", "small"] * bool(image.min() == 0))
    rows = inspected("parquet")
    assert [row["unlike"] for row in rows] == [[], ["dark", "small"], None]
    table = pyarrow.parquet.read_table("out/findings.parquet").to_pylist()
    assert [row["unlike"] for row in table] == [row["unlike"] for row in rows]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--save", "masks,heat"],
            "--save masks,heat: should be all, none, or some of overlays,maps,masks,contours,",
        ),
        (["--save", "none,maps"], "--save none,maps: should be all, none, or some of"),
        (["--map-format", "npy"], "--map-format npy: but no maps are saved; give --save maps, too"),
        (["--min-area", "-1"], "--min-area -1: should be a number of pixels, 0 or more"),
    ],
)
def test_wrong_options_are_told(work: Path, capsys: pytest.CaptureFixture, words: list[str], line: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["inspect", "x.blemish", "photos", "--out", "out", *words])
    assert end.value.code == 2
    assert line in " ".join(capsys.readouterr().err.split())
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["findings.coco.json", "contours.jsonl", "findings.parquet"])
def test_files_of_others_are_not_replaced(work: Path, name: str) -> None:
    Path("out").mkdir()
    Path("out", name).write_text('{"annotations": []}')
    with pytest.raises(BlemishError, match=f"{name}: is not a result of blemish; choose another --out"):
        inspected("none")
