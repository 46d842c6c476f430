"""The search for cells: its space, a search by the command that is killed and goes on, what it leaves, mistakes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from runs import TINY_SPACE

from gluon_effnets.__main__ import main
from gluon_effnets.models.darts import DARTS_V2, MOBILENEXT_CELLS
from gluon_effnets.models.darts_search import SPACES, darts_search
from gluon_effnets.models.genotype import read_genotype
from gluon_effnets.search import cell_search
from gluon_effnets.search.cells import CellSpace, share_of
from gluon_effnets.train.config import load_recipe

SMALL = ["-o", "channels=4", "-o", "layers=5", "-o", "nodes=1", "--data", "synthetic:64"]
SMALL += ["--set", "data.image_size=8", "--set", "data.batch_size=16", "--set", "data.augment=none"]


def search(out, *words):
    return main(["search", "darts", "--space", TINY_SPACE, *SMALL, "--epochs", "2", "--out", str(out), *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "run"
    assert search(out) == 0
    return out


def test_the_files_of_a_search(finished):
    cells = read_genotype(finished / "genotype.yaml")
    found = json.loads((finished / "search.json").read_text())
    assert found["genotype"] == cells.as_dict() and found["space"] == TINY_SPACE
    assert [row["rules"] for row in found["rows"]] == [["found"]]
    history = json.loads((finished / "architecture.json").read_text())
    assert history["operations"] == list(SPACES[TINY_SPACE]) and len(history["epochs"]) == 2
    assert found["rows"][0]["score"] >= 1 / len(SPACES[TINY_SPACE])
    for picture in ("cells.png", "architecture.png"):
        assert (finished / picture).read_bytes().startswith(b"\x89PNG")
    assert len((finished / "table.csv").read_text().splitlines()) == 2
    assert load_recipe(finished / "recipe.yaml").task_options["order"] == 1


def test_the_winner_trains_from_its_recipe_and_from_its_file(finished, tmp_path):
    """Both by train_imagenet.py's command; images of 8 pixels are too small for the auxiliary classifier."""
    recipe = load_recipe(finished / "winner.yaml")
    assert recipe.task == "classification" and recipe.data.kept_back == 0
    genotype = read_genotype(finished / "genotype.yaml")
    assert recipe.model_options["genotype"] == genotype.as_dict()
    short = [f"model_options.{key}" for key in ("channels=4", "layers=5")]
    short += ["duration=1it", "data.batch_size=8", "report_page=false"]
    of_file = [*short, "model=darts_cells", f"model_options.genotype={finished / 'genotype.yaml'}"]
    of_file += ["model_options.auxiliary=true", "data.source=synthetic:64", "data.image_size=32"]
    for config, words in ((finished / "winner.yaml", short), ("cifar_darts_v2.cifar10.yaml", of_file)):
        out = tmp_path / str(len(words))
        given = [word for key in words for word in ("--set", key)]
        assert main(["train", "--config", str(config), "--out", str(out), *given]) == 0
        assert json.loads((out / "result.json").read_text())["updates"] == 1
        assert load_recipe(out / "recipe.yaml").model == "darts_cells"


def test_a_search_for_larger_images_trains_with_an_auxiliary_classifier(finished):
    recipe = load_recipe(finished / "recipe.yaml", ["data.image_size=32"])
    training, choice = cell_search._training(recipe, {"model": "darts_cells", "model_options": {}})
    assert training.task == "auxiliary" and choice["model_options"] == {"auxiliary": True}


def test_a_killed_search_goes_on_bit_for_bit(finished, tmp_path):
    """Killed by the system after an update that no checkpoint has; the same command ends where the whole one did."""
    out, code = (
        tmp_path / "run",
        (
            "import os, sys\n"
            "sys.path[:0] = sys.argv[1].split(os.pathsep)\n"
            "import runs\n"
            "from gluon_effnets.__main__ import main\n"
            "from gluon_effnets.train.hooks.architecture import Architecture\n"
            "ordinary = Architecture.batch_end\n"
            "def batch_end(self, state):\n"
            "    ordinary(self, state)\n"
            "    if state.update == 3:\n"
            "        os.kill(os.getpid(), 9)\n"
            "Architecture.batch_end = batch_end\n"
            "main(sys.argv[2:])\n"
        ),
    )
    words = ["search", "darts", "--space", TINY_SPACE, *SMALL, "--epochs", "2", "--out", str(out)]
    paths = [path for path in sys.path if path]
    done = subprocess.run([sys.executable, "-c", code, ":".join(paths), *words], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr[-2000:]
    assert not (out / "search.json").exists()
    assert search(out) == 0
    for name in ("genotype.yaml", "architecture.json", "search.json", "darts_search.params"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


def test_another_space_in_the_same_folder_is_refused(finished, capsys):
    words = ["search", "darts", "--space", "darts", *SMALL, "--epochs", "2", "--out", str(finished)]
    assert main(words) != 0
    assert "a checkpoint of another network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--space", "nowhere"], "there is no space 'nowhere': choose one of darts, darts_sandglass"),
        (["--space", "empty"], "the space empty has no operation, so that there is nothing to search in it"),
        (["--order", "3"], "task_options.order is 3; it must be 1 or 2"),
        (["--epochs", "0"], "--epochs is 0; it must be at least 1"),
        (["--data", "folder:nowhere"], "data.kept_back is for digits, cifar10, synthetic"),
        (["-o", "layers=2"], "layers is 2; a network of cells has at least 5"),
        (["--out", "/dev/null/run"], "/dev/null/run"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setitem(SPACES, "empty", ("none",))
    assert search(tmp_path / "run", *words) != 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(told) == 1 and message in told[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("normal: [[evil, 0], [evil, 1]]\nreduce: [[evil, 0], [evil, 1]]", "operation 'evil'"), ("[1, 2", "genotype")],
)
def test_a_genotype_of_a_stranger_is_one_sentence(tmp_path, capsys, text, message):
    path = tmp_path / "cells.yaml"
    path.write_text(text)
    given = ["--set", f"model_options.genotype={path}", "--data", "synthetic:64"]
    assert main(["train", "--config", "cifar_darts_v2.cifar10.yaml", "--model", "darts_cells", *given]) != 0
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_what_is_no_finished_search_is_refused(tmp_path, finished):
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        cell_search.found_cells(tmp_path)
    (tmp_path / "recipe.yaml").write_text((finished / "recipe.yaml").read_text())
    with pytest.raises(FileNotFoundError, match="its first epoch has not ended"):
        cell_search.found_cells(tmp_path)
    (tmp_path / "architecture.json").write_text("{}")
    (tmp_path / "genotype.yaml").write_text((finished / "genotype.yaml").read_text())
    with pytest.raises(ValueError, match="architecture.json is damaged"):
        cell_search.found_cells(tmp_path)


@pytest.mark.fast
def test_the_space_of_cells():
    space, random = CellSpace("darts_sandglass"), np.random.RandomState(0)
    assert len(space.operations) == 8 and len(space.positions) == 32
    for cells in (DARTS_V2, MOBILENEXT_CELLS):
        assert space.genotype(space.choice_of(cells)) == cells
    with pytest.raises(ValueError, match="the operation sandglass_3x3, which this space does not have"):
        CellSpace("darts").choice_of(MOBILENEXT_CELLS)
    with pytest.raises(ValueError, match="4 nodes, which this space does not have"):
        CellSpace("darts", nodes=2).choice_of(DARTS_V2)
    one, other = space.sample(random), space.sample(random)
    for choice in (one, other, space.mutated(one, 0.5, random), space.crossed(one, other, random)):
        cells = read_genotype(space.genotype(choice).as_dict())
        pairs = [cell[place : place + 2] for cell in cells for place in range(0, 8, 2)]
        assert all(first.source != second.source for first, second in pairs)
    assert space.label(space.choice_of(MOBILENEXT_CELLS)).startswith("glass:1 glass:0 dil5:2 glass:0")


@pytest.mark.fast
def test_costs_of_published_cells_are_those_of_their_networks():
    cost = CellSpace("darts").cost(CellSpace("darts").choice_of(DARTS_V2))
    assert cost == (3_349_342, 528_359_040)


@pytest.mark.fast
def test_the_share_of_cells_is_the_mean_over_their_edges():
    net = darts_search(space=TINY_SPACE, nodes=1, channels=4, layers=5)
    given = {"normal": [["skip_connect", 0], ["skip_connect", 1]], "reduce": [["skip_connect", 0], ["skip_connect", 1]]}
    weights = np.zeros((2, 4))
    weights[0, 2] = np.log(3)  # of 3 / 6
    assert share_of(read_genotype(given), weights, np.zeros((2, 4)), net.operations) == pytest.approx((0.5 + 0.75) / 4)
