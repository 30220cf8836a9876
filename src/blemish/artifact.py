"""The .blemish file: a detector as ONE safetensors file. Never pickle; a file changed after saving is refused.

The tensors are the method's weights; everything else is JSON in the metadata of the header. The metadata's ``sha256``
is the digest of the whole file with these 64 characters set to zeros, so a change of any byte is detected.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.files import replace_file

FORMAT_VERSION = 1
DETECTOR = "detector.blemish"
"""Name of the file in the run folder of ``fit``."""
_UNSIGNED = "0" * 64
_FIELD = b'"sha256":"'


def write_artifact(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write weights and their description, which must be JSON-serializable, to ``path``: completely or not at all.

    Raises
    ------
    BlemishError
        If the folder cannot be written to or the disk is full.
    """
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "sha256": _UNSIGNED,
        "description": json.dumps(description),
    }
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = in_order(safetensors.torch.save(plain, metadata))
    signed = content.replace(_FIELD + _UNSIGNED.encode(), _FIELD + hashlib.sha256(content).hexdigest().encode(), 1)
    with replace_file(path) as file:
        file.write(signed)


def artifact_at(path: Path) -> Path:
    """Return the .blemish file at a path: of a run folder, its ``detector.blemish``.

    Raises
    ------
    BlemishError
        If it is a folder without one.
    """
    if not path.is_dir():
        return path
    if (path / DETECTOR).is_file():
        return path / DETECTOR
    others = sorted([*path.glob("*.blemish"), *path.glob(f"*/{DETECTOR}")])
    remedy = f"give one of these: {', '.join(map(str, others[:5]))}" if others else "give a .blemish file"
    raise BlemishError(f"{path}: holds no {DETECTOR}; {remedy}")


def in_order(content: bytes) -> bytes:
    """Return a safetensors file with its header in a fixed order, so that equal content is an equal file.

    The order of the metadata that the library writes is random.
    """
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = {"__metadata__": dict(sorted(header.pop("__metadata__").items()))}
    entries = dict(sorted(header.items(), key=lambda item: (item[1]["data_offsets"], item[0])))
    ordered = json.dumps(metadata | entries, separators=(",", ":")).encode()
    ordered += b" " * (-len(ordered) % 8)  # the tensors are aligned
    return struct.pack("<Q", len(ordered)) + ordered + content[8 + length :]


def read_artifact(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the description from a file of ``write_artifact``.

    Raises
    ------
    BlemishError
        If the file is missing, is not a .blemish file, is cut short or altered, or has a newer format.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would never end
            raise BlemishError(f"{path}: is no regular file; give a .blemish file")
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise BlemishError(f"{path}: no such file; check the path") from error
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); give a .blemish file") from error
    metadata = _metadata(path, content)
    version = int(metadata["format_version"])
    if version > FORMAT_VERSION:
        raise BlemishError(
            f"{path}: written by a newer blemish (file format {version}, this one reads {FORMAT_VERSION}); update it"
        )
    signed = _FIELD + metadata["sha256"].encode()
    if hashlib.sha256(content.replace(signed, _FIELD + _UNSIGNED.encode(), 1)).hexdigest() != metadata["sha256"]:
        raise BlemishError(f"{path}: damaged or altered since it was saved (wrong digest); copy or train it again")
    return safetensors.torch.load(content), json.loads(metadata["description"])


def _metadata(path: Path, content: bytes) -> dict[str, str]:
    """Return the header's metadata, after checking that the content is a complete .blemish file."""
    not_blemish = BlemishError(f"{path}: not a .blemish file; give one that `blemish fit` wrote")
    if len(content) < 8:
        raise not_blemish
    (header_length,) = struct.unpack("<Q", content[:8])
    if content[8:9] != b"{" or header_length > 100_000_000:
        raise not_blemish
    if len(content) < 8 + header_length:
        raise BlemishError(f"{path}: cut short (even its header is incomplete); copy it again")
    try:
        header = json.loads(content[8 : 8 + header_length])
        metadata: dict[str, str] = header.pop("__metadata__")
        length = 8 + header_length + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        int(metadata["format_version"])
        if not isinstance(metadata["description"], str) or len(metadata["sha256"].encode()) != len(_UNSIGNED):
            raise not_blemish
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise not_blemish from error
    if len(content) < length:
        raise BlemishError(f"{path}: cut short ({len(content)} bytes, should be {length}); copy it again")
    return metadata
