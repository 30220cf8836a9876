"""The house: which room may enter which, and how large files and functions may be."""

from __future__ import annotations

import ast
from pathlib import Path

import blemish

SOURCE = Path(blemish.__file__).parent
ROOMS = (
    "__main__", "cli", "commands", "studies", "fleet", "compare", "serve", "outputs", "record", "report",
    "evaluation", "learning", "__init__", "detector", "inspection", "runtimes", "methods", "synthesis", "data",
    "metrics", "losses", "layers", "backbones", "scoring", "regions", "thresholds", "artifact", "files", "kernels",
    "graphs", "devices", "settings", "errors",
)  # fmt: skip
"""From the top: a room imports only from rooms after it."""
MAX_LINES, MAX_FUNCTION_LINES = 400, 60


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Modules of blemish that a file imports anywhere, types alone included."""
    nodes = [*ast.walk(ast.parse(path.read_text()))]
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.removeprefix("blemish.") for name in names if name.startswith("blemish.")}


def test_a_room_imports_only_from_rooms_below_it() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        room = room_of(path)
        assert room in ROOMS, f"{path}: a room that has no place yet"
        for name in imported(path):
            other = name.partition(".")[0]
            if room not in ("__init__", other) and ROOMS.index(other) < ROOMS.index(room):
                wrong.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert not wrong


def test_no_two_files_import_each_other_in_a_circle() -> None:
    modules = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")}
    by_name = {name.removesuffix(".__init__"): path for path, name in modules.items()}
    imports = {name: imported(path) & by_name.keys() - {name} for name, path in by_name.items() if name != "__init__"}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in imports.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in imports:
        visit(name, ())


def test_files_and_functions_fit_a_screen_or_a_few() -> None:
    for path in (*SOURCE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")):
        text = path.read_text()
        assert text.count("\n") <= MAX_LINES, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{path}: {node.name}"


def test_one_loop_inspects() -> None:
    """``runtime(images)`` is called in ``inspection/stream.py`` and where a runtime warms itself, nowhere else."""
    callers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "runtime")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "runtime")
        )
    }
    assert callers == {"inspection/stream.py"}
