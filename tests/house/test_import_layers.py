"""The house of the package: imports go down the layers, never up."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parents[2] / "gluon_effnets"
# A module may import from its own layer and those before it in this list.
LAYERS = [
    ["_requirements", "_resources", "progress"],
    ["native"],
    ["nn"],
    ["models"],
    ["complexity", "paper_tables", "weights", "timing"],
    ["deploy"],
    ["train"],
    ["evaluate"],
    ["benchmarks"],
    ["commands"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
OPTIONAL = {
    "horovod",
    "sklearn",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "tvm",
    "torch",
    "safetensors",
    "tensorboardX",
    "gluoncv",
}


def imported(path, top_level_only=False):
    """Absolute names of what a module imports, relative imports resolved."""
    tree = ast.parse(path.read_text())
    package = ["gluon_effnets", *path.relative_to(PACKAGE).with_suffix("").parts[:-1]]
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms():
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in LEVEL:
            yield path, room


def test_every_file_has_a_room():
    known = set(LEVEL) | {"__init__", "__main__"}
    assert {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in PACKAGE.rglob("*.py")} <= known


def test_imports_go_down():
    upward = []
    for path, room in rooms():
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "gluon_effnets" and len(parts) > 1 and LEVEL.get(parts[1], -1) > LEVEL[room]:
                upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not upward


def test_the_package_itself_imports_neither_train_nor_options():
    for name in imported(PACKAGE / "__init__.py"):
        assert not name.startswith(("gluon_effnets.train", "gluon_effnets.deploy"))


def test_optional_packages_are_imported_where_they_are_used():
    eager = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, _ in rooms()
        for name in imported(path, top_level_only=True)
        if name.split(".")[0] in OPTIONAL
    ]
    assert not eager


def test_every_file_says_what_it_holds():
    undocumented = [str(path) for path in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not undocumented
