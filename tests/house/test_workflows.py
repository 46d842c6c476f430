"""Files that hosts of repositories read: workflows call targets that are there, the citation names the five papers."""

import re
from pathlib import Path

import pytest
import yaml

from gluon_effnets import __version__, list_models, model_info

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_targets_of_the_makefile(path):
    jobs = yaml.safe_load(path.read_text())["jobs"]
    calls = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = [target for call in calls for target in re.findall(r"\bmake ([a-z-]+)", call)]
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets and set(targets) <= set(known)


def test_the_tests_run_on_every_python_that_setup_allows():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    minors = [int(version.split(".")[1]) for version in workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]]
    low, high = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', (ROOT / "setup.py").read_text()).groups()
    assert minors == list(range(int(low), int(high)))


def test_the_citation_has_this_version_and_the_five_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    papers = " ".join(model_info(name).paper for name in list_models())
    numbers = [reference["url"].rpartition("/")[2] for reference in citation["references"]]
    assert len(numbers) == 5 and all(number in papers for number in numbers)
    assert all(reference["authors"] and reference["title"] for reference in citation["references"])
