"""The house of the package: imports go down the layers, never up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

PACKAGE = Path(__file__).parents[2] / "gluon_effnets"
# A module may import from its own layer and those before it in this list.
LAYERS = [
    ["runtime"],
    ["_requirements", "_mxnet", "_resources", "_gluoncv", "intervals", "progress", "tables"],
    ["files"],
    ["_foreign", "class_names", "pictures"],
    ["native"],
    ["nn"],
    ["models"],
    ["detection"],
    ["complexity", "paper_tables", "weights", "timing"],
    ["claims"],
    ["deploy"],
    ["train"],
    ["evaluate"],
    ["benchmarks"],
    ["doctor", "experiments"],
    ["search"],
    ["commands"],
]
# The same for the rooms of deploy, where rooms of one line do not know each other.
DEPLOY = [
    ["graph"],
    ["aligned", "compare", "description", "detection_images"],
    ["compare_detections", "compiled"],
    ["two_stages"],
    ["answers"],
    ["to_mxnet", "to_onnx", "to_tvm"],
    ["forms"],
    ["formats"],
    ["routed", "ways"],
    ["export", "model_card"],
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
    "mlflow",
    "wandb",
    "argcomplete",
    "gluoncv",
}


def imported(path, top_level_only=False, root=PACKAGE):
    """Absolute names of what a module imports, relative imports resolved."""
    tree = ast.parse(path.read_text())
    package = ["gluon_effnets", *path.relative_to(root).with_suffix("").parts[:-1]]
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


def module_imports(root):
    """{module: modules of the package that it imports}, imports within functions and for types alone included."""
    modules = {}
    for path in root.rglob("*.py"):
        parts = ["gluon_effnets", *path.relative_to(root).with_suffix("").parts]
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for module, path in modules.items():
        # `from ..a import b` names the module a.b, or b in a.
        names = [name if name in modules else name.rpartition(".")[0] for name in imported(path, root=root)]
        found[module] = {name for name in names if name in modules} - {module}
    return found


def circles(imports):
    """Groups of modules that import one another, directly or through others."""

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for name in imports[waiting.pop()] - seen:
                seen.add(name)
                waiting.append(name)
        return seen

    reach = {module: reached(module) for module in imports}
    return {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in imports if a in reach[a]}


def test_no_modules_import_one_another():
    """A type that both need belongs below both; a function that both need, too."""
    assert circles(module_imports(PACKAGE)) == set()


def test_circles_are_found_in_functions_and_packages(tmp_path):
    texts = {
        "__init__.py": "from .a import x",
        "a.py": "def f():\n    from .room import c",
        "room/__init__.py": "",
        "room/c.py": "from ..b import y\nfrom .. import a",
        "b.py": "import os",
        "room/d.py": "from . import c",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert circles(module_imports(tmp_path)) == {("gluon_effnets.a", "gluon_effnets.room.c")}


def test_imports_within_deploy_go_down_to_other_lines():
    level = {room: number for number, rooms_of_line in enumerate(DEPLOY) for room in rooms_of_line}
    found = []
    for path in (PACKAGE / "deploy").rglob("*.py"):
        room = path.relative_to(PACKAGE / "deploy").with_suffix("").parts[0]
        assert room in level or room == "__init__", f"deploy/{room} has no line in DEPLOY"
        for name in imported(path):
            other = name.split(".")[2] if name.startswith("gluon_effnets.deploy.") else room
            if room in level and other != room and level[other] >= level[room]:
                found.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not found


def test_the_package_itself_imports_neither_train_nor_options():
    for name in imported(PACKAGE / "__init__.py"):
        assert not name.startswith(("gluon_effnets.train", "gluon_effnets.deploy"))


def test_optional_packages_are_imported_where_they_are_used():
    alone = ("torch_modules.py", "torchvision_export.py")  # run where PyTorch is, without the package
    eager = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path, _ in rooms()
        for name in imported(path, top_level_only=True)
        if name.split(".")[0] in OPTIONAL and path.name not in alone
    ]
    assert not eager
    # Within the package, whoever imports them has asked for PyTorch before.
    names = tuple(f"gluon_effnets.benchmarks.{Path(name).stem}." for name in alone)
    users = [path.name for path, _ in rooms() if any(name.startswith(names) for name in imported(path))]
    assert users == ["torch_reference.py"]


def test_rooms_that_need_mxnet_import_it_by_the_sentence_that_says_what_to_install():
    for path, room in rooms():
        names = list(imported(path, top_level_only=True))
        if not any(name.split(".")[0] == "mxnet" for name in names) or room == "_mxnet":
            continue
        gate = PACKAGE / room / "__init__.py"
        first = next(name for name in imported(gate, top_level_only=True) if name.startswith("gluon_effnets."))
        assert first.startswith("gluon_effnets._mxnet"), f"{gate} must import _mxnet before all else of the package"


@pytest.mark.parametrize("module", ["complexity", "timing", "native", "nn.conv", "models", "weights", "deploy.export"])
def test_modules_without_mxnet_raise_one_sentence(module):
    code = f"import sys; sys.modules['mxnet'] = None; import gluon_effnets.{module}"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.stderr.splitlines()[-2] == "ImportError: gluon_effnets needs MXNet 1.9.1, which is not installed."


def test_the_runtime_needs_numpy_pillow_and_onnx_runtime_alone():
    foreign = {name.split(".")[0] for path, room in rooms() if room == "runtime" for name in imported(path)}
    assert {"numpy", "PIL", "onnxruntime"} <= foreign
    assert not foreign & {*OPTIONAL, "mxnet", "cv2", "scipy", "yaml", "tqdm", "packaging"} - {"onnxruntime"}


def test_every_file_says_what_it_holds():
    undocumented = [str(path) for path in PACKAGE.rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not undocumented
