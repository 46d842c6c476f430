"""What tests share lies in tests/support: no test module is imported, and no test has a bound of seconds of its own."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

TESTS = Path(__file__).parents[1]


def test_no_test_module_is_imported():
    # By the text, so that code in strings, which workers run, is seen too.
    imports = re.compile(r"\b(?:from|import) +(?:[\w.]+, *)*(?:tests\.)?((?:\w+\.)*test_\w+|conftest)\b")
    found = {str(path.relative_to(TESTS)): imports.findall(path.read_text()) for path in TESTS.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_shared_modules_are_found_from_everywhere_and_test_modules_are_not(pytestconfig):
    assert pytestconfig.getini("pythonpath") == [TESTS / "support"]
    assert pytestconfig.getoption("importmode") == "importlib"


def test_bounds_in_seconds_are_those_of_waiting():
    """A busy machine takes ten times as long; a test that says `timeout=60` fails there without a fault."""
    bound = re.compile(r"\btimeout=[\d.]+|time\.monotonic\(\) \+")
    files = [path for path in TESTS.rglob("*.py") if path.name != "waiting.py" and path != Path(__file__)]
    found = {path.name: bound.findall(path.read_text()) for path in files}
    assert {name: bounds for name, bounds in found.items() if bounds} == {}


@pytest.fixture(scope="module")
def shared():
    """Stands for a whole run that several tests look at."""


def test_what_tests_share_is_made_in_one_process(shared, request):
    group = request.node.get_closest_marker("xdist_group").args[0]
    assert group == "tests/house/test_shared_code.py"
    # pytest-xdist spreads by what stands behind the sign.
    assert request.node.nodeid.endswith(f"@{group}") == bool(request.config.getoption("loadgroup", False))
