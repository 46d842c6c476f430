"""The site of the documentation has all pages, and its reference all that is offered to callers."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = sorted((DOCS / "reference").glob("*.md"))


def leaves(nav):
    """The pages of a navigation."""
    for entry in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(entry, str):
            yield entry
        else:
            yield from leaves(entry)


def test_every_page_is_in_the_navigation_once():
    nav = list(leaves(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(nav) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_the_reference_names_modules_that_say_what_they_offer():
    modules = [
        name for path in REFERENCE for name in re.findall(r"^::: (gluon_effnets[\w.]*)$", path.read_text(), re.M)
    ]
    assert {"gluon_effnets.models", "gluon_effnets.deploy", "gluon_effnets.runtime"} <= set(modules)
    for name in modules:
        if name == "gluon_effnets.deploy.export.export":  # the function has the name of its module
            continue
        module = importlib.import_module(name)
        assert module.__doc__ and module.__all__


def test_links_of_the_reference_lead_somewhere():
    links = [(path, link) for path in REFERENCE for link in re.findall(r"\]\(([^)#]+)\)", path.read_text())]
    assert links and not [link for path, link in links if not (path.parent / link).exists()]


def test_the_gallery_has_all_pictures_of_results_and_a_command_above_each():
    text = (DOCS / "gallery.md").read_text()
    shown = re.findall(r"\]\(\.\./(results/[^)]+\.png)\)\]\(", text)
    pictures = {path.relative_to(ROOT) for path in (ROOT / "results").rglob("*.png")}
    # The command experiment makes some of every new experiment; the gallery shows some of them.
    missing = {str(path) for path in pictures if "experiments" not in path.parts} - set(shown)
    assert not missing, f"show {', '.join(sorted(missing))} in docs/gallery.md, with the command that made it"
    for line in re.findall(r"```\n(python .+)\n```", text):
        program = line.split()[1]
        assert program == "-m" or (ROOT / program).is_file(), line
    assert text.count("```\npython ") >= 8


def test_words_of_the_glossary_are_explained_once():
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "glossary.md").read_text(), re.M)
    assert len(words) > 15 and words == sorted(set(words), key=str.lower)
