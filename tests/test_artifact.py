"""The .blemish file: read exactly as it was saved, or refused with a one-line error."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from blemish import artifact
from blemish.artifact import read_artifact, write_artifact
from blemish.errors import BlemishError

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "n": torch.tensor(7)}
DESCRIPTION = {"method": "draem", "name": "Gehäuse", "threshold": 0.1 + 0.2}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "with space.blemish"
    write_artifact(path, TENSORS, DESCRIPTION)
    return path


def test_what_was_written_is_read(file: Path) -> None:
    tensors, description = read_artifact(file)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"weight": [[0, 1, 2], [3, 4, 5]], "n": 7}
    assert description == DESCRIPTION
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # no temporary file is left


def test_any_changed_byte_is_refused(file: Path) -> None:
    content = file.read_bytes()
    for position, bit in ((position, bit) for position in range(len(content)) for bit in range(8)):
        changed = bytearray(content)
        changed[position] ^= 1 << bit
        file.write_bytes(changed)
        with pytest.raises(BlemishError) as refused:
            read_artifact(file)
        assert str(file) in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1, -20])
def test_a_file_cut_short_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BlemishError, match=r"cut short|not a \.blemish file"):
        read_artifact(file)


def test_a_longer_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(BlemishError, match="damaged or altered"):
        read_artifact(file)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "FORMAT_VERSION", 99)
    write_artifact(tmp_path / "new.blemish", TENSORS, DESCRIPTION)
    monkeypatch.undo()
    with pytest.raises(BlemishError, match=r"newer blemish \(file format 99"):
        read_artifact(tmp_path / "new.blemish")


def test_foreign_files_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    path = tmp_path / "x.blemish"
    for content in (pickle.dumps(Trap()), b"", b"hello, this is text", json.dumps({}).encode()):
        path.write_bytes(content)
        with pytest.raises(BlemishError, match=r"not a \.blemish file"):
            read_artifact(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(BlemishError, match=r"not a \.blemish file"):
        read_artifact(path)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"none\.blemish: no such file; check the path"):
        read_artifact(tmp_path / "none.blemish")


def test_equal_detectors_are_equal_files_and_valid_safetensors(tmp_path: Path) -> None:
    tensors = {f"layer {number}": torch.full((number, 3), number) for number in range(5)} | {
        "ü": torch.ones(2).half()
    }
    contents = set()
    for number in range(12):
        path = tmp_path / f"{number}.blemish"
        write_artifact(path, dict(sorted(tensors.items(), reverse=bool(number % 2))), DESCRIPTION)
        contents.add(path.read_bytes())
        again, description = read_artifact(path)
        write_artifact(path, again, description)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safe_open(path, framework="pt") as file:
        assert sorted(file.keys()) == sorted(tensors)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
        assert json.loads(file.metadata()["description"]) == DESCRIPTION
    (header_length,) = struct.unpack("<Q", path.read_bytes()[:8])
    assert header_length % 8 == 0


def test_a_file_with_its_metadata_in_another_order_is_read(tmp_path: Path) -> None:
    written = {key: {"sha256": "0" * 64, "format_version": "1", "description": "{}"}[key] for key in
               ("sha256", "description", "format_version")}  # fmt: skip
    for names in itertools.permutations(written):
        metadata = json.dumps({"__metadata__": {name: written[name] for name in names}}, separators=(",", ":"))
        content = struct.pack("<Q", len(metadata)) + metadata.encode()
        signed = content.replace(b"0" * 64, hashlib.sha256(content).hexdigest().encode())
        (tmp_path / "a.blemish").write_bytes(signed)
        assert read_artifact(tmp_path / "a.blemish") == ({}, {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.blemish")
    with pytest.raises(BlemishError, match=r"x\.blemish: is no regular file; give a \.blemish file"):
        read_artifact(tmp_path / "x.blemish")
