"""The house keeps itself in order: a file imports only from the floors below its own, and rooms stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "avatar"
FLOORS = {
    0: {"types", "registry", "errors", "answers", "cache", "chat", "__init__"},
    1: {"advantages", "rewards", "losses"},
    2: {"models", "data", "replay"},
    3: {"rollouts", "benchmarks"},
    4: {"modules"},
    5: {"cli", "commands", "report"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
PURE = {"lightning", "transformers", "webdataset", "torchcodec", "jsonargparse"}  # not on floors 0 and 1
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} if node.module != "avatar" else {f"avatar.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_from_its_own_floor_or_below(path):
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "avatar" and len(parts) > 1 and parts[1] in FLOOR_OF and parts[1] != room:
            assert FLOOR_OF[parts[1]] < FLOOR_OF[room] or FLOOR_OF[room] == 5 or FLOOR_OF[room] == 0, (
                f"{room} -> {parts[1]}"
            )


@pytest.mark.parametrize(
    "path", [p for p in FILES if FLOOR_OF[room_of(p)] <= 1], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_lower_floors_know_no_framework(path):
    assert not {name.split(".")[0] for name in imports_of(path)} & PURE


def test_there_is_no_import_circle():
    graph = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
    edges = {name: {i for i in imports_of(path) if i in graph and i != name} for name, path in graph.items()}
    while leaves := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in leaves:
            del edges[name]
    assert not edges, f"in a circle: {sorted(edges)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 380, "a room of more than 380 lines: is it still one thing?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= 40, f"{node.name} has {length} lines"
