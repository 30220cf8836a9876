"""A network in a loop over the tiles of photographs (``tiles.py``), as one graph of ONNX or of OpenVINO.

Neither library makes such a loop of what torch traces, so it is put together here: the graph that says where the
tiles are, the loop with the network for one tile as its body, the graph that joins the maps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from blemish.runtimes.base import needed
from blemish.runtimes.tiles import Cut, Grid, Joined, JudgedTile, Layout, Places
from blemish.runtimes.tracing import in_onnx, traced


def onnx_over_tiles(network: nn.Module, grid: Grid, name: str, outputs: tuple[str, str]) -> Any:
    """Return an ONNX model (``ModelProto``) of photographs (B, H, W, 3) uint8, called ``name``.

    Its outputs are the maps (B, 1, H, W) and the scores (B,). The loop is a ``Scan``: it takes the place of each tile
    in turn, and the photographs from the graph around it, without copying them.
    """
    onnx = needed("onnx")
    parts = _Traced(grid)
    body_program = parts.of_a_tile(JudgedTile(network), 0)
    before = in_onnx(parts.places, [name], Layout._fields)
    body = in_onnx(body_program, ["lines", "lines_of_one", "columns_of_one"], ["map_of_one", "score_of_one"])
    after = in_onnx(parts.joined, [name, "row_starts", "column_starts", "maps", "scores"], outputs)
    kept = {"rename_inputs": False, "rename_outputs": False}  # by these names, the parts find each other
    for part, model in (("places", before), ("tile", body), ("joined", after)):
        onnx.compose.add_prefix(model, f"{part}/", inplace=True, **kept)
        del model.graph.value_info[:]  # sizes of each part's own letters, which mean others in the next part
    del body.graph.input[0]  # the lines: from the graph around it
    loop = onnx.helper.make_node(
        "Scan", ["tile_lines", "tile_columns"], ["maps", "scores"], "tiles", body=body.graph, num_scan_inputs=2
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
    parts = _Traced(grid)
    before, cut, after = map(openvino.convert_model, (parts.places, parts.of_a_tile(Cut(), slice(1)), parts.joined))
    before.reshape([-1, -1, -1, 3])
    connect(network.input(0), cut.output(0).get_node().input_value(0))
    body = openvino.Model(network.get_results(), cut.get_parameters(), "tile")
    loop = openvino.op.tensor_iterator()
    loop.set_body(body)
    layout = Layout(*(output.get_node().input_value(0) for output in before.outputs))
    lines, *places = body.get_parameters()
    loop.set_invariant_input(lines, layout.lines)
    for place, of_all in zip(places, (layout.tile_lines, layout.tile_columns), strict=True):
        loop.set_sliced_input(place, of_all, start=0, stride=1, part_size=1, end=-1, axis=0)
    results = (loop.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0) for result in body.get_results())
    photographs = before.input(0).get_node().output(0)
    for taken, given in zip(
        after.inputs, (photographs, layout.row_starts, layout.column_starts, *results), strict=True
    ):
        connect(taken, given)
    return openvino.Model(after.get_results(), before.get_parameters(), "tiles")


def connect(taken: Any, given: Any) -> None:
    """Let what takes an input of an OpenVINO model take an output of another model instead."""
    for place in taken.get_target_inputs():
        place.replace_source_output(given)


class _Traced:
    """The graphs around the loop.

    They are traced with photographs of two rows and columns of tiles: torch takes a length of 1 to be always 1.
    """

    def __init__(self, grid: Grid) -> None:
        height, width = grid.size_hw
        photographs = torch.zeros(2, 2 * height, 2 * width, 3, dtype=torch.uint8)
        self.places = traced(Places(grid), photographs, n_free_axes=(3,))
        with torch.no_grad():
            self.layout: Layout = Places(grid)(photographs)
        n_tiles = len(self.layout.tile_lines)
        results = torch.zeros(n_tiles, 1, height, width), torch.zeros(n_tiles)
        starts = self.layout.row_starts, self.layout.column_starts
        self.joined = traced(Joined(grid), photographs, *starts, *results, n_free_axes=(3, 1, 1, 1, 1))

    def of_a_tile(self, module: nn.Module, tile: int | slice) -> torch.export.ExportedProgram:
        """The graph of a module that takes the lines of photographs, and where a tile is."""
        place = self.layout.tile_lines[tile], self.layout.tile_columns[tile]
        return traced(module, self.layout.lines, *place, n_free_axes=(2, 0, 0))
