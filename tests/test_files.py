"""Files are written completely or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from blemish.errors import BlemishError, NotNow
from blemish.files import LOCK, check_own, make_folder, owned_folder, replace_file, write_text


def test_what_was_there_stays_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "x.txt", "before")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlemishError, match=r"x\.txt: cannot be written \(No space left on device\)"):
        write_text(tmp_path / "x.txt", "after")
    assert (tmp_path / "x.txt").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_a_full_disk_is_reported_through_torch_save(tmp_path: Path) -> None:
    class Full:
        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self) -> None: ...

    with pytest.raises(BlemishError, match="No space left"), replace_file(tmp_path / "x.pt"):
        torch.save({"weight": torch.zeros(1000)}, Full())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_other_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="my own"), replace_file(tmp_path / "x"):
        raise RuntimeError("my own")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BlemishError, match="cannot write there"):
        make_folder(tmp_path / "file" / "run")
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert not list((tmp_path / "a" / "b").iterdir())


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    with owned_folder(tmp_path / "out") as folder:
        assert folder.is_dir()
        with (
            pytest.raises(NotNow, match=rf"out: process {os.getpid()} on .* writes there"),
            owned_folder(folder),
        ):
            pass
        with owned_folder(tmp_path / "other"):
            pass
    assert not folder.exists(), "it was new, and nothing was written"
    folder.mkdir()
    with pytest.raises(ValueError, match="stop"), owned_folder(folder):
        raise ValueError("stop")
    assert not list(folder.iterdir())
    (folder / LOCK).write_text("process 1 on a machine that was switched off")
    with owned_folder(folder):
        pass


def test_own_files_are_told_by_their_bytes(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    check_own(file, lambda content: False)  # there is none
    file.touch()
    check_own(file, lambda content: False)  # nothing is lost
    file.write_bytes(b"abc")
    check_own(file, lambda content: content == b"abc")
    with pytest.raises(BlemishError, match=r"metrics\.json: is not a result of blemish; choose another --out"):
        check_own(file, lambda content: False)
    with pytest.raises(BlemishError, match="is a folder; choose another --out"):
        check_own(tmp_path, lambda content: True)
