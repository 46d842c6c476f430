"""Code outside of the package: recipes and command lines name it, files of weights never do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import elsewhere
import pytest
from elsewhere.hooks import SWA
from elsewhere.optimizers import Lion
from elsewhere.tasks import Focal
from runs import kill_after
from waiting import PATIENCE_S

from gluon_effnets import get_model
from gluon_effnets.__main__ import main as command
from gluon_effnets.commands.train import main
from gluon_effnets.models import model_info, params
from gluon_effnets.train import loop
from gluon_effnets.train.checkpoint import list_checkpoints
from gluon_effnets.train.config import find_recipe, load_recipe

NET = "elsewhere.nets:small_net"
RECIPE = """
model: elsewhere.nets:small_net
model_options: {width: 6}
task: "elsewhere.tasks:Focal"
task_options: {gamma: 1.5}
data: {source: "synthetic:32", image_size: 16, batch_size: 8, augment: none}
duration: 4it
optimizer: {name: "elsewhere.optimizers:Lion", lr: 1.0e-2, options: {beta2: 9e-1, pause: 1it}}
schedule: {name: "elsewhere.schedules:sawtooth", final: 0.2, options: {teeth: 2}}
hooks: {"elsewhere.hooks:SWA": {begin: 2it}, mixup: {off_last: 4it}}
checkpoint_every: 2it
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "elsewhere.yaml"
    path.write_text(RECIPE)
    return path


def results(out: Path):
    files = {path.name: path.read_bytes() for path in list_checkpoints(out)[-1].iterdir()}
    return {**files, "weights": (out / "small_net.params").read_bytes()}


def test_train_and_resume_from_the_command_line(recipe, tmp_path, monkeypatch):
    line, built, train = ["--config", str(recipe), "--out"], [], loop.train

    def until_killed(state, task, hooks):
        built.append((state, task, hooks))
        kill_after(hooks, 3)
        train(state, task, hooks)

    assert main([*line, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", until_killed)
        patch.setattr("gluon_effnets.train.run.CRASHED", 7)
        assert main([*line, str(tmp_path / "parts")]) == 7
    assert main([*line, str(tmp_path / "parts")]) == 0
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    ((state, task, hooks),) = built
    assert (type(task), task.gamma, type(hooks.recipe[0]), hooks.recipe[0].begin) == (Focal, 1.5, SWA, "2it")
    optimizer = state.trainer._optimizer
    assert (type(optimizer), optimizer.beta2, optimizer.pause) == (Lion, 0.9, 1)
    assert (type(state.net).__name__, state.net.num_features, state.net.num_classes) == ("SmallNet", 6, 10)
    assert "swa_norm" in (tmp_path / "whole" / "result.json").read_text()
    stored = params.read(tmp_path / "whole" / "small_net.params")
    assert stored.identity == {"model": NET, "width": 6, "in_channels": 3}


def test_a_process_of_its_own_finds_the_package_by_its_path(recipe, tmp_path):
    script = Path(__file__).parents[2] / "train_imagenet.py"
    overrides = ["--set", "hooks.elsewhere.hooks:SWA.begin=1it", "--model", NET]
    arguments = [sys.executable, str(script), "--config", str(recipe), "--out", str(tmp_path / "run"), *overrides]

    def run(*folders):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)

    refused = run(script.parent)
    assert refused.returncode == 1
    told = [line for line in refused.stderr.splitlines() if line.startswith("error")]
    remedy = "there is no module 'elsewhere'; install it, or add the folder that it lies in to PYTHONPATH"
    assert told == [f"error: task 'elsewhere.tasks:Focal': {remedy}"]
    done = run(script.parent, Path(elsewhere.__file__).parents[1])
    assert done.returncode == 0, done.stderr
    hooks = load_recipe(tmp_path / "run" / "recipe.yaml").hooks
    assert hooks == {"elsewhere.hooks:SWA": {"begin": "1it"}, "mixup": {"off_last": "4it"}}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "task=elsewhere.task:Focal",
            "'elsewhere.task:Focal': there is no module 'elsewhere.task'; install it",
        ),
        ("task=elsewhere.tasks:Vocal", "elsewhere.tasks has no 'Vocal'; did you mean elsewhere.tasks:Focal?"),
        (
            "task=elsewhere.hooks:SWA",
            "'elsewhere.hooks:SWA' is not a class derived from gluon_effnets.train.tasks",
        ),
        ("task=elsewhere.broken:X", r"elsewhere.broken cannot be imported \(RuntimeError: no licence\)"),
        ("task='elsewhere tasks:X'", "'elsewhere tasks:X' is not of the form package.module:name"),
        ("task_options.gama=1", "task_options of elsewhere.tasks:Focal: no option 'gama'; it takes gamma"),
        (
            "hooks={'elsewhere.tasks:Focal': {}}",
            "'elsewhere.tasks:Focal' is not a class derived from .*base.Hook",
        ),
        ("hooks={'elsewhere.hooks:not_a_class': {}}", "'elsewhere.hooks:not_a_class' is not a class derived from"),
        ("hooks.elsewhere.hooks:SWA.start=1", "hooks.elsewhere.hooks:SWA: no option 'start'; it takes begin"),
        ("optimizer.name=elsewhere.tasks:Focal", "'elsewhere.tasks:Focal' is not a class derived from mxnet.optimizer"),
        ("optimizer.options.beta3=1", "optimizer.options of elsewhere.optimizers:Lion: .*beta3"),
        (
            "model=elsewhere.nets:small_nets",
            "elsewhere.nets has no 'small_nets'; did you mean elsewhere.nets:sm",
        ),
        (
            "model=elsewhere.nets:nn",
            "'elsewhere.nets:nn' is of type module, not a function that returns a net",
        ),
        ("model=elsewhere.nets:dense", "model 'elsewhere.nets:dense' returns a Dense, not a ClassificationNet"),
        ("model_options.depth=3", "model_options: .*depth"),
    ],
)
def test_mistakes_are_one_sentence(recipe, tmp_path, capsys, override, message):
    extra = ["--set", "model_options={}"] if "dense" in override else []
    assert main(["--config", str(recipe), "--out", str(tmp_path / "run"), *extra, "--set", override]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match=message):
        raise ValueError(error)


@pytest.mark.fast
def test_a_network_from_outside_by_its_name_in_calls_and_commands(tmp_path, capsys):
    net = get_model(NET, classes=7, width=5)
    net.initialize()
    assert net.identity == {"model": NET, "width": 5, "in_channels": 3}
    assert (model_info(NET).summary, model_info(NET).family) == ("A network in three lines.", "elsewhere.nets")
    path = str(tmp_path / "w.params")
    net.save_parameters(path)
    again = get_model(NET, pretrained=path)
    assert (again.num_classes, again.num_features) == (7, 5)
    assert command(["info", NET]) == 0
    assert "A network in three lines." in capsys.readouterr().out
    data = ["--data", "synthetic:16", "--set", "data.image_size=16", "--set", "data.classes=7"]
    assert command(["validate", NET, path, *data]) == 0
    assert "top1" in capsys.readouterr().out
    assert command(["export", NET, path, str(tmp_path / "exported"), "--image-size", "32"]) == 0


@pytest.mark.fast
def test_a_file_of_weights_never_imports_what_it_names(tmp_path):
    (tmp_path / "evil.py").write_text("open(__file__ + '.ran', 'w').close()")
    net = get_model(NET, classes=3)
    net.initialize()
    sys.path.insert(0, str(tmp_path))
    try:
        for named in ("evil:net", "elsewhere.nets:dense"):
            net.info = net.info.__class__(named, "tests", "", "")
            path = str(tmp_path / "w.params")
            net.save_parameters(path)
            assert params.read(path).identity["model"] == named
            for asked in ("idle_tiny", NET):
                with pytest.raises(ValueError, match=f"holds the weights of {named}, not of {asked}"):
                    get_model(asked, pretrained=path)
            with pytest.raises(ValueError, match=f"holds the weights of {named}, not of {NET}"):
                get_model(NET, classes=3).load_parameters(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "evil.py.ran").exists() and "evil" not in sys.modules


@pytest.mark.fast
def test_recipes_and_overrides_know_such_names(recipe):
    loaded = load_recipe(recipe, ["hooks.elsewhere.hooks:SWA.begin=3it", "hooks.mixup.alpha=0.5"])
    assert loaded.hooks == {"elsewhere.hooks:SWA": {"begin": "3it"}, "mixup": {"off_last": "4it", "alpha": 0.5}}
    assert loaded.file_name == "small_net"
    assert find_recipe(NET, "digits").name == "digits.yaml"
    with pytest.raises(FileNotFoundError, match="add --config .*configs/.*yaml"):
        find_recipe(NET)
