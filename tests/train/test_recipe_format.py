"""Recipes: strict keys, typed values and overrides, and messages that say what to change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from gluon_effnets import list_models, model_info
from gluon_effnets.__main__ import main
from gluon_effnets.train.config import Recipe, differences, find_recipe, load_recipe

pytestmark = pytest.mark.fast


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


def test_a_minimal_recipe_has_all_defaults(write):
    assert load_recipe(write("model: idle_tiny")) == dataclasses.replace(Recipe(), model="idle_tiny")


def test_values_and_sections(write):
    text = """
        model: idle_tiny
        model_options: {dropout: 0.1, norm_kwargs: {momentum: 0.99}}
        data: {source: "synthetic:8", mean: [1, 2, 3], std: [1, 1, 1], classes: null}
        optimizer: {name: adam, lr: 1e-3, lr_for_batch: 256, decay_all: true, options: {beta1: 0.8}}
        schedule: {name: step, steps: [1ep, 0.5run]}
        hooks: {ema: , mixup: {alpha: 1}}
    """
    recipe = load_recipe(write(text))
    assert recipe.model_options == {"dropout": 0.1, "norm_kwargs": {"momentum": 0.99}}
    assert recipe.data.mean == (1.0, 2.0, 3.0)
    assert recipe.data.classes is None
    assert recipe.optimizer.lr == 0.001, "YAML 1.1 reads 1e-3 as a text"
    assert (recipe.optimizer.lr_for_batch, recipe.optimizer.decay_all) == (256, True)
    assert recipe.schedule.steps == ("1ep", "0.5run")
    assert recipe.hooks == {"ema": {}, "mixup": {"alpha": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell: x", "unknown recipe key modell; did you mean model"),
        ("optimizer: {lrr: 1}", "unknown recipe key optimizer.lrr; did you mean optimizer.lr"),
        ("data: {batchsize: 1}", "unknown recipe key data.batchsize; did you mean data.batch_size"),
        ("1: x", "unknown recipe key 1"),
        ("accumulate: 1.5", "accumulate must be a whole number, not 1.5"),
        ("accumulate: true", "accumulate must be a whole number, not True"),
        ("accumulate: 0", "accumulate is 0; it must be at least 1"),
        ("optimizer: {lr: fast}", "optimizer.lr must be a number, not 'fast'"),
        ("optimizer: {lr: true}", "optimizer.lr must be a number, not True"),
        ("optimizer: {lr: null}", "optimizer.lr must be a number, not None"),
        ("optimizer: {decay_all: 1}", "optimizer.decay_all must be true or false, not 1"),
        ("optimizer: {lr_for_batch: many}", "optimizer.lr_for_batch must be a whole number, not 'many'"),
        ("optimizer: nag", "optimizer.* must be a section with keys, not 'nag'"),
        ("model: [a]", "model must be a text, not"),
        ("hooks: [ema]", "hooks must be a section with keys, not"),
        ("schedule: {steps: 1ep}", "schedule.steps must be a list, not '1ep'"),
        ("data: {mean: [a, b, c]}", "data.mean must be a number, not 'a'"),
        ("data: {augment: smal}", "data.augment is 'smal'; it must be one of"),
        ("- a", "must hold keys and values"),
        ("a: b: c", "is not valid YAML"),
    ],
)
def test_mistakes_in_a_recipe(write, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(write(text), ["model=x"] if "model" not in text else [])
    assert len(str(caught.value).splitlines()) <= 3


def test_missing_recipe(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe .*nothing.yaml"):
        load_recipe(tmp_path / "nothing.yaml")


def test_what_is_left_to_the_user_is_asked_for(write):
    path = write('model: "???"\noptimizer: {name: "???"}')
    with pytest.raises(ValueError, match="recipe.yaml leaves model, optimizer.name to you: add --set model="):
        load_recipe(path)
    with pytest.raises(ValueError, match="leaves optimizer.name to you"):
        load_recipe(path, ["model=a"])
    assert load_recipe(path, ["model=a", "optimizer.name=sgd"]).optimizer.name == "sgd"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.lr=3e-5", "optimizer.lr", 3e-5),
        ("duration=100it", "duration", "100it"),
        ("data.mean=[1,2,3]", "data.mean", (1, 2, 3)),
        ("data.source=folder:/a=b", "data.source", "folder:/a=b"),
        ("optimizer.decay_all=true", "optimizer.decay_all", True),
        ("optimizer.lr_for_batch=null", "optimizer.lr_for_batch", None),
        ("model_options.dropout=0.5", "model_options", {"dropout": 0.5}),
        ("hooks.ema.decay=0.5", "hooks", {"ema": {"decay": 0.5}}),
        ("hooks.ema=", "hooks", {"ema": {}}),
        ("hooks={}", "hooks", {}),
        ("model=123", "model", "123"),
    ],
)
def test_overrides(write, override, path, value):
    recipe = load_recipe(write("model: idle_tiny\noptimizer: {lr_for_batch: 1}"), [override])
    for part in path.split("."):
        recipe = getattr(recipe, part)
    assert recipe == value


def test_the_last_override_wins(write):
    assert load_recipe(write("model: a"), ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", "--set 'optimizer.lr' is not of the form section.key=value"),
        ("=3", "--set '=3' is not of the form"),
        ("optimizer.lrr=1", "unknown recipe key optimizer.lrr"),
        ("optimiser.lr=1", "unknown recipe key optimiser; did you mean optimizer"),
        ("model.x=1", "--set model.x=1: 'model' is a value, not a section"),
        ("seed.=1", "seed"),
        ("seed=one", "seed must be a whole number, not 'one'"),
        ("optimizer=sgd", "optimizer.* must be a section"),
        ("data.mean=[1,2", r"--set .*data.mean=\[1,2"),
        ("data.source='a", "--set .*data.source="),
        (".=1", "unknown recipe key|not of the form"),
    ],
)
def test_mistakes_in_overrides(write, override, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(write("model: idle_tiny"), [override])
    assert len(str(caught.value).splitlines()) <= 3


def test_the_resolved_recipe_is_a_recipe(write, tmp_path):
    recipe = load_recipe(write("model: a\nschedule: {steps: [1ep]}\nhooks: {ema: {decay: 0.5}}"), ["seed=3"])
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    assert load_recipe(again) == recipe
    assert differences(recipe.as_dict(), load_recipe(again).as_dict()) == []


def test_differences(write):
    old = load_recipe(write("model: a\nhooks: {ema: {decay: 0.5}}")).as_dict()
    new = load_recipe(write("model: a\nhooks: {mixup: {alpha: 1}}\noptimizer: {lr: 3}")).as_dict()
    assert differences(old, new) == [
        "hooks.ema.decay: 0.5 -> None",
        "hooks.mixup.alpha: None -> 1",
        "optimizer.lr: 0.1 -> 3.0",
    ]


def test_a_hook_without_options_is_a_difference(write):
    old = load_recipe(write("model: a")).as_dict()
    new = load_recipe(write("model: a\nhooks: {ema: {}}")).as_dict()
    assert any("ema" in line for line in differences(old, new))


def offered(error):
    """The path that the text of an error puts behind --config."""
    return Path(str(error).rpartition("--config ")[2])


@pytest.mark.parametrize("kind", [None, "recordio", "cifar10"])
def test_the_recipes_that_errors_offer_exist(kind):
    without = []
    for model in list_models():
        try:
            assert find_recipe(model, kind).is_file()
        except FileNotFoundError as error:
            without.append(model)
            assert load_recipe(offered(error), [f"model={model}", "data.source=synthetic"]).model == model
            related = list_models(family=model_info(model).family, has_recipe=True)
            assert ("of the same family" in str(error)) is bool(related)
    assert ("alexnet_owt" in without) is (kind != "cifar10")


def test_a_mistyped_recipe_is_answered_with_the_nearest_one():
    with pytest.raises(FileNotFoundError) as caught:
        load_recipe("configs/idle_mbv3_single_node.yaml")
    assert offered(caught.value).name == "idle_mbv3.single_node.yaml" and offered(caught.value).is_file()


def test_find_recipe():
    assert find_recipe("idle_tiny", "digits").name == "digits.yaml"
    assert find_recipe(None, "digits").name == "digits.yaml"
    # Own photographs rarely come with the cluster of a paper.
    assert find_recipe("idle_mbv3", "folder").name == "own_images.yaml"
    assert find_recipe("retinanet_mobilenext_x0_35", "voc").name == "own_boxes.yaml"
    assert find_recipe("ssdlite320_mobilenext_x1_0", "voc").name == "ssdlite320_mobilenext_x1_0.voc.yaml"
    with pytest.raises(FileNotFoundError, match="no recipe idle_tiny.yaml in (.|\n)*--config"):
        find_recipe("idle_tiny")
    with pytest.raises(FileNotFoundError, match="idle_tiny.nokind.yaml or nokind.yaml or idle_tiny.yaml"):
        find_recipe("idle_tiny", "nokind")
    with pytest.raises(ValueError, match="unknown model 'idle_tinny'"):
        find_recipe("idle_tinny")


def test_recipes_of_the_package_are_found_by_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for named in ("own_images.yaml", "configs/own_images.yaml"):
        assert load_recipe(named, ["model=idle_mbv3"]).duration == "30ep"
    (tmp_path / "own_images.yaml").write_text("model: idle_mbv3\nduration: 3ep\n")
    assert load_recipe("own_images.yaml").duration == "3ep"


def test_recipes_are_listed_and_shown(capsys):
    assert main(["recipes", "--format", "json"]) == 0
    listed = {row["recipe"]: row["what it is"] for row in json.loads(capsys.readouterr().out)}
    assert listed["own_images.yaml"].startswith("Your own photographs")
    assert main(["recipes", "own_images"]) == 0
    assert "duration: 30ep" in capsys.readouterr().out
    assert main(["recipes", "nothing"]) == 1
    assert "no recipe 'nothing.yaml'; python -m gluon_effnets recipes lists all" in capsys.readouterr().err


def test_keys_of_options_may_be_numbers(tmp_path):
    """As the blocks of a composition are."""
    (tmp_path / "recipe.yaml").write_text("model: idle_mbv3\nmodel_options: {composition: {3: left}}\n")
    assert load_recipe(tmp_path / "recipe.yaml").model_options == {"composition": {3: "left"}}
