"""The Open Inference Protocol, by the client of others: tritonclient."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from services import DEFECTIVE, GOOD, Running, running

from blemish.serve.service import Limits

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), limits=Limits(max_bytes=100_000, places=8)) as each:
        yield each


@pytest.fixture
def client(line: Running) -> Iterator[object]:
    with triton.InferenceServerClient(line.url.removeprefix("http://")) as each:
        yield each


def image(contents: list[bytes], shape: list[int] | None = None) -> object:
    tensor = triton.InferInput("image", shape or [len(contents)], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, dtype=object).reshape(shape or [len(contents)]))
    return tensor


def test_a_client_learns_what_is_served(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("gasket")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata("gasket")
    assert about["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in about["outputs"]] == ["score", "is_defective", "finding"]
    with pytest.raises(triton.InferenceServerException, match="no such product"):
        client.get_model_metadata("lid")


@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_a_batch_is_judged_as_each_photograph_alone(
    client: triton.InferenceServerClient, line: Running, shape: list[int]
) -> None:
    contents = [GOOD, DEFECTIVE, b"no photograph"]
    asked = {"request_id": "7", "parameters": {"part": "p7", "lot": "L"}}
    result = client.infer("gasket", [image(contents, shape)], **asked)
    assert result.get_response()["id"] == "7"
    scores, flags = result.as_numpy("score"), result.as_numpy("is_defective")
    assert scores.shape == flags.shape == tuple(shape)
    assert flags.ravel().tolist() == [False, True, True]
    findings = [json.loads(text) for text in result.as_numpy("finding").ravel()]
    assert [row["verdict"] for row in findings] == ["good", "defective", "not_inspected"]
    assert np.isnan(scores.ravel()[2])
    assert {(row["part"], row["lot"]) for row in findings} == {("p7", "L")}
    for content, score, row in zip(contents[:2], scores.ravel(), findings, strict=False):
        alone = line.inspect(content).json()
        assert np.float32(alone["score"]) == score
        assert {key: alone[key] for key in ("verdict", "score", "regions")} == {
            key: row[key] for key in ("verdict", "score", "regions")
        }


def test_outputs_may_be_json(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("score", binary_data=False),
               triton.InferRequestedOutput("is_defective", binary_data=True)]  # fmt: skip
    result = client.infer("gasket", [image([DEFECTIVE, b"?"])], outputs=outputs)
    assert result.as_numpy("is_defective").tolist() == [True, True]
    assert result.get_output("score")["data"][1] is None


def test_all_of_a_batch_are_accepted_or_none(client: triton.InferenceServerClient, line: Running) -> None:
    n_before = len(line.rows())
    with pytest.raises(triton.InferenceServerException, match="8 at most"):
        client.infer("gasket", [image([GOOD] * 9)])
    with pytest.raises(triton.InferenceServerException, match=r"more than 0\.1 MB"):
        client.infer("gasket", [image([GOOD, bytes(100_001)])])
    assert len(line.rows()) == n_before
    assert line.service.products()[0]["waiting"] == 0
    client.infer("gasket", [image([GOOD] * 8)])
    assert len(line.rows()) == n_before + 8


@pytest.mark.parametrize(
    ("body", "line_of_error"),
    [
        (b"", "no JSON"),
        (b"[1]", "a JSON object"),
        (b'{"inputs": []}', "should be one, image"),
        (b'{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [1]}]}', "datatype BYTES"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [65], "data": []}]}', "n from 1 to 64"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}', "needs data"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["%"]}]}', "Base64"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["AA=="]}]}', "shape says 2"),
        (b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AA=="]}], "outputs": [{}]}',
         "None is none of score"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_in_one_line(line: Running, body: bytes, line_of_error: str) -> None:
    answer = line.http.post("/v2/models/gasket/infer", content=body)
    assert answer.status_code == 400
    assert line_of_error in answer.json()["error"]
    assert line.service.products()[0]["waiting"] == 0


def test_lengths_that_lie_are_told(line: Running) -> None:
    for length in ("x", "-1", "99999"):
        headers = {"Inference-Header-Content-Length": length}
        assert line.http.post("/v2/models/gasket/infer", content=b"{}", headers=headers).status_code == 400
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1],
                                   "parameters": {"binary_data_size": 8}}]}).encode()  # fmt: skip
    headers = {"Inference-Header-Content-Length": str(len(head))}
    sent = line.http.post("/v2/models/gasket/infer", content=head + b"\xff\0\0\0abcd", headers=headers)
    assert sent.json()["error"] == "inputs: the bytes of image end within a photograph"
