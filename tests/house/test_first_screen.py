"""README.md is one screen with what a newcomer needs first, and every command is shown on its page."""

import re
from pathlib import Path

import pytest

from gluon_effnets.__main__ import COMMANDS
from gluon_effnets.claims import PAPERS

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_readme_is_one_screen():
    assert len(README.splitlines()) < 100
    assert [line for line in README.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_the_readme_has_one_picture_two_commands_and_three_lines_of_python():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert len(pictures) == 1 and (ROOT / pictures[0]).is_file()
    assert "\nmake train " in README and "\nmake test " in README
    (python,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(python.split("\n\n")[0].splitlines() + python.split("\n\n")[1].splitlines()) == 3


def test_three_commands_lead_to_the_first_prediction_on_a_photograph():
    block = README.partition("## Your own photograph")[2].split("```")[1].strip().splitlines()
    assert len(block) == 3 and block[0] == "make weights"
    assert block[2] == "python -m gluon_effnets predict efficientnet_lite0 pretrained photo.jpg"


def test_the_readme_has_the_score_of_every_paper():
    score = README.partition("<!-- table claims_score -->")[2].partition("<!-- end -->")[0]
    assert len([line for line in score.splitlines() if line.startswith("| ")]) == 2 + len(PAPERS)


def test_every_command_has_an_example_on_its_page():
    page = (ROOT / "docs" / "commands.md").read_text()
    assert [one.name for one in COMMANDS if f"python -m gluon_effnets {one.name}" not in page] == []
