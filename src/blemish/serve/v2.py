"""The Open Inference Protocol (V2), as far as photographs need it: bodies of requests and answers, no web framework.

A request has one input, ``image``: a batch of files of photographs, BYTES. The answer has ``score`` (FP32; NaN, in
JSON null, if a photograph was not inspected), ``is_defective`` (BOOL; true unless the verdict is good, so that no
part passes that was not judged good) and ``finding`` (BYTES; the JSON of the verdict). Tensors are JSON, or binary
after it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blemish.serve.jobs import Json, Refused

INPUT = "image"
VERSION_DIGITS = 12
"""So many digits of a detector's digest are its version."""
OUTPUTS = {"score": "FP32", "is_defective": "BOOL", "finding": "BYTES"}
MOST_TOGETHER = 64
"""Photographs in one request."""


@dataclass(frozen=True)
class Request:
    """What a request asks for."""

    number: str | None
    """Its id, which the answer repeats."""
    contents: list[bytes]
    shape: list[int]
    part: str | None
    lot: str | None
    wanted: list[tuple[str, bool]]
    """The outputs, and whether each is to be binary."""


def metadata(product: str, digest: str) -> Json:
    """What a model takes and gives."""
    return {
        "name": product,
        "versions": [digest[:VERSION_DIGITS]],
        "platform": "blemish",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


def read_request(body: bytes, header_length: str | None) -> Request:
    """Read a request.

    Parameters
    ----------
    header_length : of the JSON at the begin of the body, in bytes; None if there is nothing else.

    Raises
    ------
    Refused
        If it is not one.
    """
    if header_length is not None and not (header_length.isdecimal() and int(header_length) <= len(body)):
        raise Refused("Inference-Header-Content-Length: should be the number of bytes of the JSON in the body")
    n_json = len(body) if header_length is None else int(header_length)
    try:
        request = json.loads(body[:n_json])
    except (ValueError, RecursionError) as error:
        raise Refused("the body is no JSON; see the Open Inference Protocol") from error
    if not isinstance(request, dict):
        raise Refused("the body should be a JSON object with inputs")
    inputs = request.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) == 1 and isinstance(inputs[0], dict)):
        raise Refused(f"inputs: should be one, {INPUT}")
    shape, contents = _photographs(inputs[0], body[n_json:])
    parameters = _parameters(request)
    part, lot = (_text(parameters, name) for name in ("part", "lot"))
    number = _text(request, "id")
    return Request(number, contents, shape, part, lot, _wanted(request, parameters))


def answer(product: str, request: Request, rows: Sequence[Json]) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON if more follows."""
    outputs, tail = list[Json](), b""
    for name, is_binary in request.wanted:
        output: Json = {"name": name, "datatype": OUTPUTS[name], "shape": request.shape}
        values = [_value(name, row) for row in rows]
        if is_binary:
            content = b"".join(_packed(name, value) for value in values)
            output["parameters"] = {"binary_data_size": len(content)}
            tail += content
        else:
            output["data"] = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
        outputs.append(output)
    version = (rows[0]["detector"] or "")[:VERSION_DIGITS]
    made: Json = {"model_name": product, "model_version": version, "outputs": outputs}
    if request.number is not None:
        made["id"] = request.number
    head = json.dumps(made).encode()
    return head + tail, len(head) if tail else None


def _photographs(tensor: Mapping[str, Any], tail: bytes) -> tuple[list[int], list[bytes]]:
    """Shape and files of the input."""
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise Refused(f"inputs: should be {INPUT} of datatype BYTES")
    shape = tensor.get("shape")
    is_shape = isinstance(shape, list) and 1 <= len(shape) <= 2 and all(type(side) is int for side in shape)
    if not (isinstance(shape, list) and is_shape and 1 <= math.prod(shape) <= MOST_TOGETHER and min(shape) > 0):
        raise Refused(f"inputs: the shape of {INPUT} should be [n] or [n, 1], n from 1 to {MOST_TOGETHER}")
    n, parameters = math.prod(shape), _parameters(tensor)
    if "binary_data_size" in parameters:
        size = parameters["binary_data_size"]
        if type(size) is not int or size != len(tail):
            raise Refused(f"inputs: binary_data_size {size!r} is not the {len(tail)} bytes after the JSON")
        contents = _unpacked(tail)
    else:
        contents = [_decoded(text) for text in _flat(tensor.get("data"))]
    if len(contents) != n:
        raise Refused(f"inputs: {INPUT} has {len(contents)} photographs, its shape says {n}")
    return shape, contents


def _flat(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise Refused(f"inputs: {INPUT} needs data, a list of texts in Base64, or binary_data_size")
    return [item for part in data for item in (part if isinstance(part, list) else [part])]


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Refused(f"inputs: the data of {INPUT} should be Base64; or send it binary") from error


def _unpacked(content: bytes) -> list[bytes]:
    """Elements of BYTES, each after its length, 4 bytes, little-endian."""
    elements, position = list[bytes](), 0
    while position < len(content):
        if position + 4 > len(content):
            raise Refused(f"inputs: the bytes of {INPUT} end within a length")
        (length,) = struct.unpack_from("<I", content, position)
        position += 4
        if position + length > len(content):
            raise Refused(f"inputs: the bytes of {INPUT} end within a photograph")
        elements.append(content[position : position + length])
        position += length
    return elements


def _parameters(of: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refused("parameters: should be a JSON object")
    return parameters


def _text(of: Mapping[str, Any], name: str) -> str | None:
    value = of.get(name)
    if value is None:
        return None
    if not isinstance(value, str | int) or len(str(value)) > 200:
        raise Refused(f"{name}: should be a text of at most 200 characters")
    return str(value)


def _wanted(request: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Which outputs are asked for; all if none are named."""
    usual = parameters.get("binary_data_output") is True
    outputs = request.get("outputs")
    if not outputs:
        return [(name, usual) for name in OUTPUTS]
    if not (isinstance(outputs, list) and all(isinstance(output, dict) for output in outputs)):
        raise Refused("outputs: should be a list of JSON objects")
    wanted = [(output.get("name"), _parameters(output).get("binary_data", usual) is True) for output in outputs]
    for name, _ in wanted:
        if name not in OUTPUTS:
            raise Refused(f"outputs: {name!r} is none of {', '.join(OUTPUTS)}")
    return [(str(name), is_binary) for name, is_binary in wanted]


def _value(name: str, row: Json) -> Any:
    if name == "score":
        return math.nan if row["score"] is None else row["score"]
    if name == "is_defective":
        return row["verdict"] != "good"
    return json.dumps(row)


def _packed(name: str, value: Any) -> bytes:
    if name == "score":
        return struct.pack("<f", value)
    if name == "is_defective":
        return struct.pack("?", value)
    text: bytes = value.encode()
    return struct.pack("<I", len(text)) + text
