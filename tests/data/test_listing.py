"""Which files of a folder are images, and what is said of the others."""

from __future__ import annotations

import errno
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.kinds import OVERLAY, kind_of, kind_of_bytes, with_comment
from blemish.data.layouts import find_dataset, open_dataset
from blemish.data.listing import LeftOut, lines_about, list_files, list_images
from blemish.data.reading import read_image
from blemish.errors import BlemishError

PIXELS = np.linspace(40, 220, 12 * 16).astype(np.uint8).reshape(12, 16, 1).repeat(3, axis=2)


def encoded(format_name: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format_name)
    return file.getvalue()


def iso_media(*brands: bytes) -> bytes:
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 4 + len(content)) + content + bytes(100)


@pytest.mark.parametrize(
    ("content", "suffix", "name"),
    [
        (encoded("PNG"), ".txt", "PNG"),
        (encoded("JPEG"), "", "JPEG"),
        (encoded("BMP"), "", "BMP"),
        (encoded("TIFF"), ".dat", "TIFF"),
        (encoded("TIFF"), ".NEF", "raw file of a camera"),
        (encoded("WEBP"), "", "WEBP"),
        (encoded("GIF"), "", "GIF"),
        (encoded("AVIF"), ".heic", "AVIF"),
        (encoded("PPM"), ".ppm", "Netpbm (PGM, PPM)"),
        (iso_media(b"heic", b"mif1", b"heic"), ".jpg", "HEIC"),
        (iso_media(b"mif1", b"heic"), "", "HEIC"),
        (iso_media(b"mif1", b"avif", b"miaf"), "", "AVIF"),
        (iso_media(b"isom", b"avc1"), ".mp4", "video"),
        (iso_media(b"qt  "), ".mov", "video"),
        (b"PK\3\4" + bytes(40), ".zip", "ZIP archive"),
        (b"PK\3\4" + bytes(40), ".xlsx", "document"),
        (b"%PDF-1.7\n" + bytes(40), ".pdf", "PDF"),
        (b"BMW 3, series of 20 parts\n", ".txt", "text"),
        (b"P6 is the camera on the left\n", "", "text"),
        ("Maße\n".encode("latin1"), ".txt", "text"),
        ("Teile\n".encode("utf-16"), ".txt", "text"),
        (b'{\n  "image_auroc": 0.9,', ".json", "record by blemish"),
        (b"path,defect,score,is_rejected\n", ".csv", "record by blemish"),
        (b'{"path": "a.png", "label": "good"}\n', ".jsonl", "text"),
        (b"path,label,mask,split\n", ".csv", "text"),
        (b"", ".png", "empty"),
        (bytes(range(1, 250)), "", "of an unknown kind"),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_first_bytes(content: bytes, suffix: str, name: str) -> None:
    assert kind_of_bytes(content[:512], suffix).name == name


def test_images_are_listed_however_they_are_called(tmp_path: Path) -> None:
    for name in ("a.jfif", "b.JPE", "c", "d.heic", "e.dat"):
        (tmp_path / name).write_bytes(encoded("JPEG"))
    (tmp_path / "f.avif").write_bytes(encoded("AVIF"))
    for name in ("g.heic", "h.heic"):
        (tmp_path / name).write_bytes(iso_media(b"heic"))
    (tmp_path / "h.jpg").write_bytes(encoded("JPEG"))
    listing = list_files(tmp_path)
    assert [path.name for path in listing.images] == [
        "a.jfif", "b.JPE", "c", "d.heic", "e.dat", "f.avif", "g.heic", "h.jpg",
    ]  # fmt: skip
    assert [(entry.path.name, entry.kind.name) for entry in listing.left_out] == [
        ("h.heic", "HEIC, beside an image of its name")
    ]
    assert np.abs(read_image(tmp_path / "f.avif").astype(int) - PIXELS).max() < 12
    with pytest.raises(BlemishError, match=r"g\.heic: is not a PNG, .* image but HEIC; save it as PNG"):
        read_image(tmp_path / "g.heic")


def test_other_files_are_named_but_for_those_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._1.png", ".part"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    (tmp_path / ".2.png").write_bytes(encoded("PNG"))
    (tmp_path / "notes.txt").write_text("lot 3")
    with zipfile.ZipFile(tmp_path / "lot.zip", "w") as archive:
        archive.writestr("a.png", encoded("PNG"))
    for name in ("__MACOSX", ".lot", "@eaDir"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "3.png").write_bytes(encoded("PNG"))
    (tmp_path / "gone.dat").symlink_to("nowhere")
    listing = list_files(tmp_path, recursive=True)
    assert [path.name for path in listing.images] == ["1.png"]
    assert {entry.path.name: entry.kind.name for entry in listing.left_out} == {
        ".2.png": "hidden PNG", ".lot": "hidden", "notes.txt": "text", "lot.zip": "ZIP archive",
        "gone.dat": "a link to nothing",
    }  # fmt: skip
    lines = lines_about(listing.left_out, tmp_path)
    assert f"{tmp_path}: 1 file is left out: lot.zip (ZIP archive); unpack it" in lines
    assert lines[-1] == f"{tmp_path}: 1 file is left out: notes.txt (text)"


def test_many_files_are_named_in_one_line_with_each_kind(tmp_path: Path) -> None:
    archive, other = kind_of_bytes(b"PK\3\4" + bytes(20)), kind_of_bytes(b"Rar!" + bytes(20))
    files = [LeftOut(tmp_path / f"{number}.zip", archive) for number in range(20)]
    (line,) = lines_about([*files, LeftOut(tmp_path / "z.rar", other)], tmp_path)
    assert line.endswith("4.zip (ZIP archive), z.rar (RAR archive) and 15 more; unpack it")
    assert "21 files are left out: 0.zip" in line


def test_links_to_folders_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    for folder in ("photos/lot1", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(encoded("PNG"))
    for name, target in (("again", "lot1"), ("loop", "."), ("lot2", "../elsewhere"), ("lot3", "../elsewhere")):
        (tmp_path / "photos" / name).symlink_to(target)
    (tmp_path / "elsewhere/back").symlink_to("../photos")
    listing = list_files(tmp_path / "photos", recursive=True)
    assert [path.relative_to(tmp_path).as_posix() for path in listing.images if "lot1" in path.parts] == [
        "photos/lot1/a.png"
    ]
    assert len(listing.images) == 2
    assert len(listing.linked) == 1


def test_a_kind_of_defect_that_is_a_link_around_itself_is_none(tmp_path: Path) -> None:
    for folder in ("train/good", "test/dent"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a").write_bytes(encoded("PNG"))
    (tmp_path / "test/loop").symlink_to(".")
    (tmp_path / "test/dent/loop").symlink_to("..")
    samples = find_dataset(tmp_path).samples
    assert [(sample.defect, sample.path.name) for sample in samples] == [("good", "a"), ("dent", "a")]


def test_a_dataset_names_what_it_does_not_take(tmp_path: Path) -> None:
    (tmp_path / "lot2").mkdir()
    for name in ("1.jfif", "lot2/2.png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    (tmp_path / "clip.mp4").write_bytes(iso_media(b"isom"))
    (tmp_path / "README").write_text("parts")
    dataset = open_dataset(tmp_path, only="train")
    assert [sample.path.name for sample in dataset.train] == ["1.jfif"]
    texts = [fault.text for fault in dataset.faults]
    assert texts == [
        f"{tmp_path / 'lot2'}: its 1 image is not used; move into {tmp_path}, or out of it",
        f"{tmp_path}: 1 file is left out: clip.mp4 (video); save its frames as PNG, or give inspect the file",
    ]
    assert {fault.split for fault in dataset.faults} == {"train"}


def test_overlays_are_known_by_their_bytes_in_any_folder(tmp_path: Path) -> None:
    jpeg = with_comment(encoded("JPEG"))
    for folder in ("overlays", "photos"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(jpeg)
        (tmp_path / folder / "b.jpg").write_bytes(encoded("JPEG"))
    assert kind_of(tmp_path / "overlays/a.jpg") is OVERLAY
    assert (read_image(tmp_path / "overlays/a.jpg") == read_image(tmp_path / "overlays/b.jpg")).all()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, recursive=True)]
    assert names == ["overlays/b.jpg", "photos/b.jpg"]
    left_out = list_files(tmp_path / "photos").left_out
    assert lines_about(left_out, tmp_path) == [f"{tmp_path}: 1 file is left out: photos/a.jpg (overlay by blemish)"]
    (fault,) = open_dataset(tmp_path / "photos", only="train").faults
    assert fault.text.endswith("1 file is left out: a.jpg (overlay by blemish)")


def test_hidden_pictures_and_archives_are_named_and_counted(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded("PNG"))
    (tmp_path / ".lot/deep").mkdir(parents=True)
    (tmp_path / ".settings").mkdir()
    for name, content in {
        ".lot/scan": encoded("PNG"), ".lot/deep/a.heic": iso_media(b"heic"), ".lot/lot.zip": b"PK\3\4" + bytes(40),
        ".lot/notes.txt": b"lot 3", ".lot/._a.png": b"\0\5\26\7", ".settings/x": b"grey",
        ".old.zip": b"PK\3\4" + bytes(40),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    left_out = list_files(tmp_path, recursive=True).left_out
    assert {entry.path.name: (entry.kind.name, entry.n_files) for entry in left_out} == {
        ".lot": ("hidden", 3),
        ".old.zip": ("hidden ZIP archive", 1),
    }
    assert lines_about(left_out, tmp_path)[0] == (
        f"{tmp_path}: 3 files are left out: .lot (hidden, 3 files); give the folder itself, or rename it"
    )


def test_a_link_to_itself_is_called_so(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    for name in ("self", "self.png"):
        (tmp_path / name).symlink_to(name)
    listing = list_files(tmp_path, recursive=True)
    assert [(entry.path.name, entry.kind.name) for entry in listing.left_out] == [("self", "a link to itself")]
    assert [path.name for path in listing.images] == ["1.png", "2.png", "self.png"]
    with pytest.raises(BlemishError, match=r"self\.png: is a link to itself; mend or remove it"):
        read_image(tmp_path / "self.png")
    assert len(open_dataset(tmp_path, only="train").train) == 3


def test_a_folder_that_cannot_be_listed_is_a_fault_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("locked/1.png", "open/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(encoded("PNG"))
    lock(monkeypatch, "locked")
    listing = list_files(tmp_path, recursive=True)
    assert listing.images == [tmp_path / "open/2.png"]
    fault = f"{tmp_path / 'locked'}: cannot be listed (Permission denied); check the folder and its permissions"
    assert listing.faults == {tmp_path / "locked": fault}
    with pytest.raises(BlemishError, match="locked: cannot be listed"):
        list_images(tmp_path, recursive=True)


def lock(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Refuse to list folders of a name, as the system does without the permission; also to root."""
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
