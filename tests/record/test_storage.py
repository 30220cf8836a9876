"""The folder of pictures: names, limits, a full disk, what a crash leaves."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from blemish.errors import BlemishError
from blemish.record import storage as storage_module
from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.rows import Verdict
from blemish.record.storage import Storage

JPEG = b"\xff\xd8" + bytes(998)
LONG_S = 120.0
DAY_S = 86_400.0


def until(is_so: Callable[[], object]) -> None:
    """Wait for what other threads do."""
    end_s = time.monotonic() + LONG_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def part(
    storage: Storage,
    record: VerdictRecord,
    verdict: Verdict = "good",
    *,
    days: float = 0.0,
    content: bytes = JPEG,
    product: str = "gasket",
) -> int:
    """Record a part with an image and an overlay, of so many days ago."""
    time_s, digest = time.time() - days * DAY_S, hashlib.sha256(content).hexdigest()
    image = storage.save_image(product, content, digest, time_s)
    overlay = storage.save_overlay(product, content, digest, time_s)
    return record.add(
        [NewVerdict(product=product, verdict=verdict, time=time_s, image=image, overlay=overlay, photograph=digest)]
    )[0]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "pictures").rglob("*") if path.is_file())


def with_images(record: VerdictRecord) -> list[int]:
    return [row["id"] for row in record.verdicts(newest_first=False, limit=10_000)[0] if row["has_image"]]


def tidied(storage: Storage) -> None:
    """Look for what is to be removed, as the thread does every minute."""
    assert storage._retention is not None
    until(storage._retention.is_searched.is_set)
    storage._retention.tidy(lambda: False)


@pytest.fixture
def storage(tmp_path: Path, record: VerdictRecord) -> Iterator[Storage]:
    with Storage(tmp_path / "storage", record=record, reserve_bytes=0) as storage:
        yield storage


def test_a_photograph_is_kept_as_it_was_sent(storage: Storage, record: VerdictRecord) -> None:
    id_ = part(storage, record)
    names = record.pictures(id_)
    assert names is not None
    image, overlay = storage.path(names.image), storage.path(names.overlay)
    assert image is not None
    assert overlay is not None
    assert image.read_bytes() == JPEG
    assert image.suffix == ".jpg"
    assert image.name.startswith(hashlib.sha256(JPEG).hexdigest()[:16])
    assert overlay.name.endswith("-overlay.jpg")
    assert image.parent == storage.folder / "pictures" / "gasket" / time.strftime("%Y-%m-%d", time.gmtime())
    assert names.storage in record.storages()


def test_the_same_photograph_twice_is_two_files(storage: Storage, record: VerdictRecord) -> None:
    part(storage, record)
    part(storage, record)
    assert len(files(storage.folder)) == 4


@pytest.mark.parametrize("product", ["..", ".", "a/b", "../../etc", "", "ä ö", "x" * 3000, "\udcff", "con"])
def test_any_name_of_a_product_stays_inside_the_folder(storage: Storage, product: str) -> None:
    name = storage.save_image(product, JPEG, "a" * 64, time.time())
    path = storage.path(name)
    assert path is not None
    assert path.parents[2] == storage.folder / "pictures"


@pytest.mark.parametrize("name", [None, "storage.json", "pictures/../storage.json", "/etc/passwd", "pictures/none"])
def test_nothing_else_is_given_out_as_a_picture(storage: Storage, name: str | None) -> None:
    assert storage.path(name) is None


@pytest.mark.parametrize(
    ("head", "suffix"), [(b"\x89PNG", ".png"), (b"II*\0", ".tif"), (b"BM", ".bmp"), (b"?", ".image")]
)
def test_the_suffix_is_that_of_the_format(storage: Storage, head: bytes, suffix: str) -> None:
    path = storage.path(storage.save_image("gasket", head + bytes(9), "a" * 64, time.time()))
    assert path is not None
    assert path.suffix == suffix


def test_detectors_are_kept_by_their_digest(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "any.blemish"
    file.write_bytes(b"weights")
    digest = storage.add_detector(file)
    assert digest == hashlib.sha256(b"weights").hexdigest() == storage.add_detector(file)
    kept = storage.detector(digest)
    assert kept is not None
    assert kept.read_bytes() == b"weights"
    assert storage.detector("0" * 64) is None
    assert storage.detector("../storage.json") is None
    with pytest.raises(BlemishError, match=r"missing\.blemish: cannot be used \(No such file"):
        storage.add_detector(tmp_path / "missing.blemish")


def test_pictures_go_by_age(tmp_path: Path, record: VerdictRecord) -> None:
    with Storage(tmp_path / "storage", keep_days=3, record=record, reserve_bytes=0) as storage:
        old = [part(storage, record, verdict, days=4) for verdict in ("good", "defective", "unlike")]
        record.review(old[1], True)
        young = part(storage, record, days=2)
        tidied(storage)
        assert with_images(record) == [young]
        assert len(files(storage.folder)) == 2
        assert storage.n_bytes == 2000
        assert sum(record.counts().values()) == 4
        assert len([*(storage.folder / "pictures" / "gasket").iterdir()]) == 1


@pytest.mark.parametrize("keep_days", [None, 3])
def test_a_product_may_have_its_own_age(tmp_path: Path, record: VerdictRecord, keep_days: float | None) -> None:
    record.set_product("gasket", None, {"keep_days": 10})
    record.set_product("lid", None, {"keep_days": 0})
    with Storage(tmp_path / "storage", keep_days=keep_days, record=record, reserve_bytes=0) as storage:
        of_gasket = [part(storage, record, days=days) for days in (11, 9, 4)]
        of_lid = [part(storage, record, days=days, product="lid") for days in (11, 2)]
        tidied(storage)
        assert with_images(record) == [*of_gasket[1:], *(of_lid if keep_days is None else of_lid[1:])]


def test_good_ones_go_first_then_the_oldest_and_reviewed_ones_last(tmp_path: Path, record: VerdictRecord) -> None:
    """Each part has 2 kB of pictures; from pass to pass, fewer have room."""
    kinds: tuple[Verdict, ...] = ("defective", "good", "unlike", "good", "good", "defective", "not_inspected")
    with Storage(tmp_path / "storage", keep_gb=1, record=record, reserve_bytes=0) as storage:
        ids = [part(storage, record, verdict, days=9 - index) for index, verdict in enumerate(kinds)]
        for reviewed in (0, 3):
            record.review(ids[reviewed], False)
        assert storage._retention is not None
        gone = list[int]()
        for n_kept in range(len(ids), -1, -1):
            storage._retention.keep_bytes = max(1, round(2000 * n_kept / 0.98))
            tidied(storage)
            gone += [index for index, id_ in enumerate(ids) if id_ not in with_images(record) and index not in gone]
        assert gone == [1, 4, 6, 2, 5, 3, 0]
        assert files(storage.folder) == []
        assert storage.n_bytes == 0


def test_too_much_is_removed_while_it_is_saved(tmp_path: Path, record: VerdictRecord) -> None:
    with Storage(tmp_path / "storage", keep_gb=20e-6, record=record, reserve_bytes=0) as storage:
        ids = [part(storage, record) for _ in range(30)]
        until(lambda: storage.n_bytes <= 20_000)
    kept = with_images(record)
    assert kept == ids[-len(kept) :]
    assert 2 * len(kept) == len(files(storage.folder)) <= 20


def test_what_has_no_row_is_removed_at_the_start_and_nothing_else(tmp_path: Path, record: VerdictRecord) -> None:
    folder = tmp_path / "storage"
    with Storage(folder, record=record, reserve_bytes=0) as storage:
        part(storage, record)
        late = storage.save_image("gasket", JPEG, "b" * 64, time.time())  # its row names another day
        record.add([NewVerdict(product="gasket", verdict="good", time=time.time() - 30 * DAY_S, image=late)])
        kept = files(folder)
        orphan = storage.path(storage.save_image("gasket", JPEG, "c" * 64, time.time()))
        old = storage.path(storage.save_image("washer", JPEG, "d" * 64, time.time() - 9 * DAY_S))
    assert orphan is not None
    assert old is not None
    (orphan.parent / f".{orphan.name}.77.part").write_bytes(b"half")
    (orphan.parent / "notes.txt").write_text("somebody's own")
    with Storage(folder, record=record, reserve_bytes=0) as storage:
        new = storage.path(storage.save_image("gasket", JPEG, "e" * 64, time.time()))  # no row yet
        tidied(storage)
        assert new is not None
        assert files(folder) == sorted([*kept, new, orphan.parent / "notes.txt"])
        assert not old.parent.exists()
        assert storage.n_bytes == 4000


def test_folders_of_other_records_and_processes_are_left_alone(
    tmp_path: Path, record: VerdictRecord, storage: Storage
) -> None:
    part(storage, record)
    with pytest.raises(BlemishError, match="writes there; wait for its end, or choose another --storage"):
        Storage(storage.folder, record=record).__enter__()
    copy = tmp_path / "copy"
    shutil.copytree(storage.folder, copy, ignore=shutil.ignore_patterns(".*"))
    with VerdictRecord.open(str(tmp_path / "other.db")) as other:
        with pytest.raises(BlemishError, match=r"copy: has the pictures of another record than .*other\.db; choose"):
            Storage(copy, record=other).__enter__()
        (copy / "storage.json").write_text("{")
        with pytest.raises(BlemishError, match=r"storage\.json: cannot be read"):
            Storage(copy, record=other).__enter__()
        (copy / "storage.json").unlink()
        with pytest.raises(BlemishError, match=r"storage\.json: is missing"):
            Storage(copy, record=other).__enter__()
        assert len(files(copy)) == 2


def test_two_folders_of_one_record_do_not_touch_each_other(tmp_path: Path, address: str) -> None:
    with VerdictRecord.open(address) as one, VerdictRecord.open(address) as two:
        with (
            Storage(tmp_path / "one", record=one, reserve_bytes=0) as first,
            Storage(tmp_path / "two", keep_days=1, record=two, reserve_bytes=0) as second,
        ):
            kept, gone = part(first, one, days=5), part(second, two, days=5)
            tidied(second)
            assert with_images(one) == [kept]
            assert gone not in with_images(one)
        with Storage(tmp_path / "one", record=one, reserve_bytes=0) as first:
            tidied(first)
            assert len(files(first.folder)) == 2


@pytest.mark.parametrize("limits", [{"keep_days": 0}, {"keep_gb": -1}, {"keep_gb": float("nan")}])
def test_a_limit_is_above_zero(tmp_path: Path, limits: dict[str, float]) -> None:
    with pytest.raises(BlemishError, match=r"--keep-(days|gb) .*: should be a number above 0"):
        Storage(tmp_path, **limits)


def storage_events(record: VerdictRecord) -> list[str]:
    return [event["text"] for event in record.events(newest_first=False) if event["kind"] == "storage"]


def test_a_full_disk_stops_pictures_and_says_so_once(
    record: VerdictRecord, storage: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = SimpleNamespace(total=100_000_000_000, free=1_100_000_000)
    monkeypatch.setattr(storage_module.shutil, "disk_usage", lambda _: disk)
    monkeypatch.setattr(storage_module, "RETRY_S", 0.0)
    storage._reserve_bytes = None
    assert storage.path(storage.save_image("gasket", JPEG, "a" * 64, time.time()))
    disk.free = 1_050_000_000
    for _ in range(3):
        assert storage.save_image("gasket", JPEG, "a" * 64, time.time()) is None
    assert record.add([NewVerdict(product="gasket", verdict="good")])
    until(lambda: storage_events(record))
    assert storage.fault is not None
    assert "no picture can be saved (the disk is nearly full, 1050 MB are free); free the disk" in storage.fault
    disk.free = 2_100_000_000  # not enough to begin again
    assert storage.save_image("gasket", JPEG, "a" * 64, time.time()) is None
    disk.free = 2_200_000_000
    assert storage.path(storage.save_image("gasket", JPEG, "a" * 64, time.time()))
    assert storage.fault is None
    until(lambda: len(storage_events(record)) == 2)
    again = f"{storage.folder}: pictures are saved again"
    assert storage_events(record)[1] == again
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"blemish: {storage_events(record)[0]}", f"blemish: {again}"]


@pytest.mark.parametrize(
    ("disk_bytes", "reserve_bytes"),
    [(10 * 2**40, 2**30), (40 * 10**9, 800 * 10**6), (2**32, 2**28), (2**26, 2**24)],
)
def test_a_small_disk_is_not_filled_either(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, disk_bytes: int, reserve_bytes: int
) -> None:
    disk = SimpleNamespace(total=disk_bytes, free=reserve_bytes + len(JPEG))
    monkeypatch.setattr(storage_module.shutil, "disk_usage", lambda _: disk)
    storage._reserve_bytes = None
    assert storage.save_image("gasket", JPEG, "a" * 64, time.time())
    disk.free -= 1
    assert storage.save_image("gasket", JPEG, "a" * 64, time.time()) is None


def test_a_folder_that_cannot_be_written_stops_pictures(
    record: VerdictRecord, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "RETRY_S", 0.0)
    (storage.folder / "pictures").write_text("in the way")
    assert storage.save_image("gasket", JPEG, "a" * 64, time.time()) is None
    until(lambda: storage_events(record))
    assert "(Not a directory); check the folder" in storage_events(record)[0]
    (storage.folder / "pictures").unlink()
    assert storage.save_image("gasket", JPEG, "a" * 64, time.time())
