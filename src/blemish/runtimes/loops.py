"""A network in a loop over the tiles of photographs (``tiles.py``), as one graph of ONNX or of OpenVINO.

Neither library makes such a loop of what torch traces, so it is put together here: the graph that says where the
tiles are, the loop with the network for one tile as its body, the graph that joins the maps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from blemish.runtimes.base import needed
from blemish.runtimes.tiles import Cut, Grid, Joined, JudgedTile, Places
from blemish.runtimes.tracing import in_onnx, traced


def onnx_over_tiles(network: nn.Module, grid: Grid, name: str, outputs: tuple[str, str]) -> Any:
    """Return an ONNX model (``ModelProto``) of photographs (B, H, W, 3) uint8, called ``name``.

    Its outputs are the maps (B, 1, H, W) and the scores (B,). The loop is a ``Scan``: it takes the place of each tile
    in turn, and the photographs from the graph around it, without copying them.
    """
    onnx = needed("onnx")
    photographs, lines, places, maps, scores = _examples(grid)
    before = in_onnx(traced(Places(grid), photographs, n_free_axes=(3,)), [name], ["lines", "rows", "columns"])
    judged = traced(JudgedTile(network), lines, *(place[0] for place in places), n_free_axes=(2, 0, 0))
    body = in_onnx(judged, ["lines", "tile_rows", "tile_columns"], ["tile_map", "tile_score"])
    joined = traced(Joined(grid), photographs, maps, scores, n_free_axes=(3, 1, 1))
    after = in_onnx(joined, [name, "maps", "scores"], outputs)
    kept = {"rename_inputs": False, "rename_outputs": False}  # by these names, the parts find each other
    for part, model in (("places", before), ("tile", body), ("joined", after)):
        onnx.compose.add_prefix(model, f"{part}/", inplace=True, **kept)
        del model.graph.value_info[:]  # sizes of each part's own letters, which mean others in the next part
    del body.graph.input[0]  # the lines: from the graph around it
    loop = onnx.helper.make_node(
        "Scan", ["rows", "columns"], ["maps", "scores"], "tiles", body=body.graph, num_scan_inputs=2
    )
    nodes = [*before.graph.node, loop, *after.graph.node]
    del after.graph.node[:], after.graph.input[1:]
    after.graph.node.extend(nodes)
    after.graph.initializer.extend(before.graph.initializer)
    return after


def openvino_over_tiles(network: Any, grid: Grid) -> Any:
    """Return an ``openvino.Model`` of photographs (B, H, W, 3) uint8, made of that of a network.

    The network, which is changed, takes (1, 3, h, w) in [0, 1]. Outputs are the maps (B, 1, H, W) and scores (B,).
    """
    openvino = needed("openvino")
    photographs, lines, places, maps, scores = _examples(grid)
    before = openvino.convert_model(traced(Places(grid), photographs, n_free_axes=(3,)))
    cut = openvino.convert_model(traced(Cut(), lines, *(place[:1] for place in places), n_free_axes=(2, 0, 0)))
    after = openvino.convert_model(traced(Joined(grid), photographs, maps, scores, n_free_axes=(3, 1, 1)))
    before.reshape([-1, -1, -1, 3])
    connect(network.input(0), cut.output(0).get_node().input_value(0))
    body = openvino.Model(network.get_results(), cut.get_parameters(), "tile")
    loop = openvino.op.tensor_iterator()
    loop.set_body(body)
    lines_in, rows_in, columns_in = body.get_parameters()
    lines_out, rows_out, columns_out = (output.get_node().input_value(0) for output in before.outputs)
    loop.set_invariant_input(lines_in, lines_out)
    for place_in, place_out in ((rows_in, rows_out), (columns_in, columns_out)):
        loop.set_sliced_input(place_in, place_out, start=0, stride=1, part_size=1, end=-1, axis=0)
    photographs_in, maps_in, scores_in = after.inputs
    connect(photographs_in, before.input(0).get_node().output(0))
    for joined_in, result in zip((maps_in, scores_in), body.get_results(), strict=True):
        connect(joined_in, loop.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0))
    return openvino.Model(after.get_results(), before.get_parameters(), "tiles")


def connect(taken: Any, given: Any) -> None:
    """Let what takes an input of an OpenVINO model take an output of another model instead."""
    for place in taken.get_target_inputs():
        place.replace_source_output(given)


def _examples(grid: Grid) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
    """Inputs to trace with: photographs, their lines, places of the tiles, maps and scores.

    All free axes are longer than 1, and so are rows and columns of tiles, since torch takes a 1 to be always a 1.
    """
    height, width = grid.size_hw
    photographs = torch.zeros(2, 2 * height + 3, 2 * width + 5, 3, dtype=torch.uint8)
    with torch.no_grad():
        lines, rows, columns = Places(grid)(photographs)
    return photographs, lines, (rows, columns), torch.zeros(len(rows), 1, height, width), torch.zeros(len(rows))
