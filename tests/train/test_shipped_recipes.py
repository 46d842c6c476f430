"""Every recipe that comes with the package loads, builds its own network and trains for one update."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from detection_runs import detector_tiny

import gluon_effnets
from gluon_effnets.detection import get_detector, list_detectors
from gluon_effnets.models import get_model, list_models
from gluon_effnets.train import loop
from gluon_effnets.train.build import build
from gluon_effnets.train.config import UNSET, Recipe, load_recipe
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.durations import to_updates
from gluon_effnets.train.optim import base_learning_rate, make_optimizer
from gluon_effnets.train.schedules import make_schedule

RECIPES = sorted((Path(gluon_effnets.__file__).resolve().parents[1] / "configs").glob("*.yaml"))
# Recipes for any model take the smallest one here.
ANY_MODEL, ANY_DETECTOR = "model=idle_tiny", "model=detector_tiny"
# What takes half a minute for an update of four sub-networks has a small one of its kind.
SMALL_OF = {"ds_resnet50": "ds_resnet_tiny", "cifar_darts_v2": "darts_tiny"}
SMALL_OPTIONS = {"darts_search": {"channels": 4, "layers": 5, "nodes": 1}}
IMAGES = 1_281_167
assert ANY_DETECTOR.endswith(detector_tiny.__name__)


def load(path: Path, *overrides: str) -> Recipe:
    text = path.read_text().replace('"', "")
    any_model = ANY_DETECTOR if "task: detection" in text else ANY_MODEL
    own = [any_model] if f"model: {UNSET}" in text else []
    own += ["model_options.pretrained_base=false"] if f"pretrained_base: {UNSET}" in text else []
    return load_recipe(path, [*own, *overrides])


STAGES = [pytest.param(path, name, id=f"{path.stem} {name}".strip()) for path in RECIPES for name in load(path).split()]


def load_stage(path: Path, name: str, *overrides: str) -> Recipe:
    """A stage of a recipe, or the recipe if it has none; of these overrides only `data` is common to all stages."""
    prefix = f"stages.{name}." if name else ""
    return load(path, *(text if text.startswith("data.") else prefix + text for text in overrides)).split()[name]


def test_there_are_recipes():
    assert {"digits.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_named_after_its_model_and_introduced(path):
    recipe, known = load(path), {*list_models(), *list_detectors()}
    if path.stem in known:
        assert recipe.model == path.stem
    elif path.stem.split(".")[0] in known:
        assert recipe.model == path.stem.split(".")[0]
    assert path.read_text().startswith("# "), "a comment says where the recipe is from"


@pytest.mark.parametrize(("path", "name"), STAGES)
def test_durations_and_rates_fit_imagenet(path, name):
    recipe = load_stage(path, name)
    per_epoch = max(1, IMAGES // (recipe.data.batch_size * recipe.accumulate))
    total = to_updates(recipe.duration, per_epoch)
    schedule = make_schedule(recipe.schedule, per_epoch, total)
    rate = base_learning_rate(recipe.optimizer, recipe.data.batch_size * recipe.accumulate)
    assert 0 < rate < 20
    assert all(0 <= schedule(n) <= 1 for n in range(1, total + 1, max(1, total // 100)))
    for duration in (recipe.evaluate_every, recipe.checkpoint_every):
        assert 0 < to_updates(duration, per_epoch, total) <= total


@pytest.mark.parametrize(("path", "name"), STAGES)
def test_one_update(path, name, tmp_path):
    detects = load(path).task == "detection"
    if detects:
        side = 64 if load(path).model == "detector_tiny" else 320
        data = ["data.source=scattered_digits:4", f"data.image_size={side}"]
    else:
        data = ["data.source=synthetic:8", "data.image_size=32"]
    data += ["data.batch_size=2", "data.eval_batch_size=2"]
    overrides = [*data, "data.classes=10", "duration=1it"]
    # The last update of a decay is at rate 0.
    overrides += ["schedule={name: constant}"]
    # Of thousands of batches.
    overrides += ["hooks.recompute_statistics.duration=1it"] if "recompute_statistics:" in path.read_text() else []
    recipe = load_stage(path, name, *overrides, "accumulate=1")
    recipe = dataclasses.replace(recipe, model=SMALL_OF.get(recipe.model, recipe.model))
    options = {**recipe.model_options, **SMALL_OPTIONS.get(recipe.model, {})}
    recipe = dataclasses.replace(recipe, model_options=options)
    small = dataclasses.replace(recipe.data, batch_size=2, normalization="own")
    recipe = dataclasses.replace(recipe, data=small, precision="float32", pretrained=None)
    state, task, hooks = build(recipe, tmp_path, Workers())
    params = state.net.collect_params()
    trained = [param for param in params.values() if param.grad_req != "null"]
    # A gate trains little, and a stage that recalibrates nothing.
    last = (state.net.predictor.class_heads[0] if detects else state.net).output.weight
    watched = [last] if last in trained else trained
    watched = watched or [param for name, param in params.items() if name.endswith("running_mean")]
    before = [param.data().asnumpy() for param in watched]
    loop.train(state, task, hooks)
    assert state.update == 1
    assert ({"loss", "map"} if detects else {"loss", "top1", "top5"}) <= state.scores.keys()
    assert all((param.data().asnumpy() != value).any() for param, value in zip(watched, before))


SHUFFLENETS = [path for path in RECIPES if path.stem.startswith("shufflenet")]


@pytest.mark.parametrize("path", SHUFFLENETS, ids=lambda path: path.stem)
def test_shufflenets_are_decayed_as_in_the_authors_code(path):
    recipe = load(path)
    net = get_model(recipe.model, **recipe.model_options)
    net.initialize()
    optimizer = make_optimizer(recipe.optimizer, net, 0.5)
    assert (type(optimizer), optimizer.momentum, optimizer.wd) == (mx.optimizer.SGD, 0.9, 4e-5)
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    # There: what has "weight" in its name and more than one dimension.
    assert {param.name for param in params if param.wd_mult} == {p.name for p in params if len(p.shape) > 1}
    sizes = {wd: sum(np.prod(p.shape) for p in params if p.wd_mult == wd) for wd in (0, 1)}
    if recipe.model == "shufflenet_v1_g3_x1_0":
        assert sizes == {0: 24_480, 1: 1_840_248}


@pytest.mark.parametrize("path", SHUFFLENETS, ids=lambda path: path.stem)
def test_shufflenets_have_the_batch_and_the_rates_of_the_authors_code(path):
    recipe, workers = load(path), 4
    batch = recipe.data.batch_size * workers * recipe.accumulate
    per_epoch = IMAGES // batch
    total = to_updates(recipe.duration, per_epoch)
    assert (batch, total) == (1024, 300_000)
    assert base_learning_rate(recipe.optimizer, batch) == 0.5
    schedule = make_schedule(recipe.schedule, per_epoch, total)
    # Their scheduler moves before the update: the first has step 1. Ours is at 0 one update earlier.
    assert all(abs(schedule(n) - (1 - n / total)) < 1.01 / total for n in (1, 2, 1000, 150_000, total - 1, total))
    assert to_updates(recipe.hooks["recompute_statistics"]["duration"], per_epoch, total) == 1250


@pytest.mark.parametrize("letter", "abc")
def test_condensenet_v2_has_the_recipe_of_the_authors_code(letter):
    recipe = load(Path(RECIPES[0].parent / f"condensenet_v2_{letter}.yaml"))
    batch = 8 * recipe.data.batch_size
    per_epoch = IMAGES // batch
    total, warmup = (to_updates(text, per_epoch) for text in (recipe.duration, recipe.schedule.warmup))
    assert (batch, total, warmup) == (1024, 350 * 1251, 5 * 1251)
    schedule, rate = make_schedule(recipe.schedule, per_epoch, total), base_learning_rate(recipe.optimizer, batch)
    # Theirs: per iteration from 0.1 to 0.4, then 0.2 (1 + cos(pi t)). Ours moves n - 1 times in a phase of n updates.
    for n in (1, 2, 1000, warmup - 1):
        assert rate * schedule(n) == pytest.approx(0.1 + 0.3 * n / warmup, rel=1e-3)
    for n in (warmup, warmup + 1, 100_000, 300_000, total):
        t = (n - warmup) / (total - warmup)
        assert rate * schedule(n) == pytest.approx(0.2 * (1 + np.cos(np.pi * t)), abs=1e-5)
    assert recipe.hooks["sparsify"] == {"until": 0.5}
    assert recipe.hooks["ema"] == {"decay": 0.9998, "warmup": False}


@pytest.mark.parametrize("name", ["condensenet_v2_a", "condensenet_74_c4"])
def test_condensenets_are_decayed_as_in_the_authors_code(name):
    recipe = load(Path(RECIPES[0].parent / f"{name}.yaml"))
    net = get_model(recipe.model)
    optimizer = make_optimizer(recipe.optimizer, net, 0.4)
    assert (type(optimizer), optimizer.momentum) == (mx.optimizer.NAG, 0.9)
    params = [param for param in net.collect_params().values() if param.grad_req != "null"]
    decayed = {param.name for param in params if param.wd_mult}
    everything = name == "condensenet_74_c4"
    assert decayed == {param.name for param in params if everything or len(param.shape) > 1}


RMSPROP = [path for path in RECIPES if load(path).optimizer.name == "rmsprop_tf"]


@pytest.mark.parametrize("path", RMSPROP, ids=lambda path: path.stem)
def test_recipes_of_rmsprop_have_the_rates_of_their_sources(path):
    recipe = load(path)
    workers = {"mobilenet_v3_large": 32, "mobilenet_v3_small": 32}.get(recipe.model, 8)
    batch = workers * recipe.data.batch_size
    expected = {  # batch, epochs, rate, its factor, epochs until it applies, epochs of warm-up
        "efficientnet_b0": (2048, 350, 0.128, 0.97, 2.4, 5),
        "mobilenet_v3_large": (4096, 600, 0.1, 0.99, 3, 0),
        "mobilenet_v3_small": (4096, 600, 0.1, 0.99, 3, 0),
        "mobilenext_s": (1024, 500, 0.12, 0.97, 2.4, 3),
        "mobilenext_l": (512, 500, 0.12, 0.97, 2.4, 3),
    }[recipe.model]
    per_epoch, rate = IMAGES // batch, base_learning_rate(recipe.optimizer, batch)
    total = to_updates(recipe.duration, per_epoch)
    assert (batch, total, rate) == (expected[0], expected[1] * per_epoch, pytest.approx(expected[2]))
    schedule = make_schedule(recipe.schedule, per_epoch, total)
    factor, epochs, warmup = expected[3:]
    for step in range(warmup * per_epoch + 1, total, per_epoch // 3):
        # As tf.train.exponential_decay(..., staircase=True) has it, steps from 0.
        assert schedule(step + 1) == pytest.approx(factor ** (step // (epochs * per_epoch))), step
    assert not warmup or schedule(warmup * per_epoch // 2) == pytest.approx(0.5, abs=0.01)
    net = get_model(recipe.model, **recipe.model_options)
    optimizer = make_optimizer(recipe.optimizer, net, rate)
    assert (optimizer.decay, optimizer.momentum, optimizer.epsilon, optimizer.wd) == (0.9, 0.9, 1e-3, 1e-5)
    assert recipe.hooks["ema"]["decay"] == 0.9999


@pytest.mark.parametrize("base", ["ssdlite320_mobilenext_x1_0", "ssdlite320_mobilenet_v2_x1_0"])
@pytest.mark.parametrize(
    ("form", "workers", "batch", "rate", "total", "decay"),
    [("voc", 4, 96, 4e-3, 60_000, 5e-4), ("coco", 8, 256, 0.08, 200_000, 4e-5)],
)
def test_detectors_have_the_lengths_and_rates_of_the_authors_code(base, form, workers, batch, rate, total, decay):
    recipe = load(Path(RECIPES[0].parent / f"{base}.{form}.yaml"))
    assert recipe.data.batch_size * workers == batch and recipe.model_options["form"] == form
    assert base_learning_rate(recipe.optimizer, batch) == pytest.approx(rate)
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay, recipe.optimizer.decay_all) == ("sgd", decay, True)
    assert to_updates(recipe.duration, 1000) == total
    schedule = make_schedule(recipe.schedule, 1000, total)
    if form == "voc":
        steps = {2_000: 1, 40_000: 1, 40_001: 0.1, 50_000: 0.1, 50_001: 0.01, total: 0.01}
        assert {number: pytest.approx(schedule(number)) for number in steps} == steps
        assert schedule(1) == pytest.approx(0.1333, abs=1e-3)
    else:
        # Theirs: (1 + cos(pi t / T)) / 2 of the whole run, times the warm-up.
        for number in (1000, 50_000, 100_000, total):
            assert schedule(number) == pytest.approx((1 + np.cos(np.pi * number / total)) / 2, abs=3e-3)
        assert schedule(1) == pytest.approx(1 / 3, abs=1e-2)
    # The criterion of each, and the images without a division.
    net = get_detector(recipe.model, 80, form=form)
    assert type(net.criterion).__name__ == {"voc": "MultiBox", "coco": "Focal"}[form]
    assert recipe.data.mean == net.preprocessing.mean and recipe.data.std == net.preprocessing.std


def test_the_detector_of_torchvision_has_its_recipe():
    recipe = load(Path(RECIPES[0].parent / "ssdlite320_mobilenet_v3_large.coco.yaml"))
    per_epoch = 118_287 // (8 * recipe.data.batch_size)
    total = to_updates(recipe.duration, per_epoch)
    assert total == 660 * 616 and base_learning_rate(recipe.optimizer, 192) == pytest.approx(0.15)
    schedule = make_schedule(recipe.schedule, per_epoch, total)
    assert schedule(1) == pytest.approx(0.001, abs=2e-3) and schedule(500) == pytest.approx(0.5, abs=2e-3)
    assert schedule(1000 + (total - 1000) // 2) == pytest.approx(0.5, abs=1e-3)
    assert recipe.optimizer.weight_decay == 4e-5 and recipe.data.augment == "ssdlite"
    net = get_detector(recipe.model, 2)
    assert recipe.data.mean == net.preprocessing.mean and recipe.data.std == net.preprocessing.std
