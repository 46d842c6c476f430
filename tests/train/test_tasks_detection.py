"""The task detection: its step and its evaluation, what goes with it, and what is refused."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from detection_runs import CLASSES, TINY_DETECTION, open_detection
from mxnet import autograd
from runs import Run, assert_resumes

from gluon_effnets import get_model
from gluon_effnets.detection import DetectionScores
from gluon_effnets.detection.routed_fssd import RoutedFSSD
from gluon_effnets.train import build as building
from gluon_effnets.train.build import build
from gluon_effnets.train.config import load_recipe
from gluon_effnets.train.data import open_data
from gluon_effnets.train.dist import Workers
from gluon_effnets.train.report import write_report


@pytest.fixture
def start(tmp_path, monkeypatch):
    """As the common one, with the tiny detector's recipe."""
    (tmp_path / "tiny.yaml").write_text(TINY_DETECTION)

    def start(*overrides: str, out: str = "run", extra_hooks=()) -> Run:
        folder = tmp_path / out
        folder.mkdir(exist_ok=True)
        recipe = load_recipe(tmp_path / "tiny.yaml", overrides)
        return Run(recipe, *build(recipe, folder, Workers(), extra_hooks=extra_hooks))

    monkeypatch.setattr(building, "open_data", open_detection)
    return start


def test_a_run_learns_and_is_scored(start):
    run = start("duration=40ep", "evaluate_every=80it", "optimizer.lr=0.05").train()
    assert run.state.scores["map"] > 0.5
    losses = [line["loss"] for line in run.log() if line["kind"] == "train"]
    assert losses[-1] < losses[0] / 2


def batches(run, epoch=0):
    return run.state.data.train_batches(epoch)


def grads(net):
    return {
        name: param.grad().asnumpy()
        for name, param in net._collect_params_with_prefix().items()
        if param.grad_req != "null"
    }


def test_step_is_one_backward_pass_of_sums_divided_by_counts(start):
    run = start()
    net, batch = run.state.net, next(batches(run))
    told = run.task.step(run.state, batch, lambda loss: loss.backward())
    found = grads(net)
    with autograd.record():
        logits, offsets = net.predictions(batch.data)
        losses = net.criterion(logits, offsets, *net.matching(net.anchors, batch.boxes, batch.label))
        loss = (losses.sums["class"] + losses.sums["box"]) / losses.counts["box"]
    loss.backward()
    # Sums of a batch come in no fixed order to the last digit.
    assert told["loss"].asscalar() == pytest.approx(loss.asscalar(), rel=1e-6)
    assert told["loss"].asscalar() == pytest.approx(sum(told[f"loss_{part}"].asscalar() for part in ("class", "box")))
    for name, value in grads(net).items():
        assert np.abs(found[name] - value).max() <= 1e-5 * max(1, np.abs(value).max()), name


def test_a_batch_without_any_box_gives_no_gradient(start):
    run = start()
    batch = next(batches(run))
    batch.label[:] = -1
    told = run.task.step(run.state, batch, lambda loss: loss.backward())
    assert told["loss"].asscalar() == 0
    assert not any(grad.any() for grad in grads(run.state.net).values())


def test_evaluation_counts_each_image_once_and_scores_in_pixels_of_the_original(start):
    run = start("data.eval_batch_size=5", "duration=10ep", "evaluate_every=40it").train()
    state = run.state
    scores, net = DetectionScores(list(CLASSES), "voc07"), state.net
    sums = np.zeros(3)
    for batch in state.data.val_batches():
        images, boxes, label = (array[: batch.num_valid] for array in (batch.data, batch.boxes, batch.label))
        found = [array.asnumpy() for array in net.detect(images, [truth.size for truth in batch.truths])]
        for truth, *detections in zip(batch.truths, *found):
            scores.add(truth, *detections)
        losses = net.losses(images, boxes, label)
        sums += [array.asscalar() for array in (*losses.sums.values(), losses.counts["box"])]
    result = scores.result()
    assert result.images == state.data.num_val == 17
    wanted = {"map": result.mean, **{f"ap_{name}": value for name, value in result.by_class.items()}}
    wanted.update(loss_class=sums[0] / sums[2], loss_box=sums[1] / sums[2], loss=(sums[0] + sums[1]) / sums[2])
    assert run.state.scores == pytest.approx(wanted, rel=1e-5)
    assert 0.05 < wanted["map"] < 1


@pytest.mark.parametrize("metric", ["voc07", "voc12", "coco"])
def test_metrics(start, metric):
    scores = start(f"task_options.metric={metric}", "duration=1it").train().state.scores
    assert {"map", "loss", "ap_dark", "ap_bright"} <= scores.keys()
    assert ("AP75" in scores) == (metric == "coco")
    with pytest.raises(ValueError, match="task_options.metric is 'voc'; choose one of voc07, voc12, coco"):
        start("task_options.metric=voc")


def test_the_best_checkpoint_is_the_best_by_map(start):
    run = start("duration=6it", "evaluate_every=2it", "checkpoint_every=6it", "export_weights=best")
    values = iter([0.2, 0.9, 0.4])
    finish = run.task.finish_evaluation
    run.task.finish_evaluation = lambda state, sums: {**finish(state, sums), "map": next(values)}
    run.train()
    assert run.hooks.checkpoint.best == {"score": 0.9, "which": "map", "update": 4, "updates_per_epoch": 4}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("accumulate=2", "data.source=scattered_digits:64"),
        ("hooks={ema: {decay: 0.9}, clip_gradients: {max_norm: 1.0}, recompute_statistics: {duration: 2it}}",),
        ("freeze=[backbone]", "optimizer.lr_factors={predictor.class_heads: 3}"),
        ("optimizer={name: lb_sgd, lr: 0.02, options: {momentum: 0.9, warmup_strategy: lars, eta: 0.01}}",),
        ("data.source=scattered_digits:16", "evaluate_every=1it", "duration=3ep"),
    ],
)
def test_resumes_bit_for_bit(start, overrides):
    assert_resumes(start, *overrides)


def test_frozen_backbone_stays_bit_for_bit_and_all_else_learns(start):
    run = start("freeze=[backbone]")
    before = run.weights()
    after = run.train().weights()
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert run.state.frozen and not changed & set(run.state.frozen)
    assert all(".backbone." in name for name in run.state.frozen)
    assert any(name.endswith("running_mean") for name in run.state.frozen)
    rest = {name for name in before if ".backbone." not in name and "anchors" not in name}
    assert changed == rest


def test_average_of_weights_is_scored_by_map(start):
    scores = start("hooks.ema.decay=0.5", "duration=8it").train().state.scores
    assert {"ema_map", "ema_loss", "ema_ap_dark"} <= scores.keys()


def test_recomputed_statistics_are_those_of_the_images(start):
    plain = start(out="plain").train().weights()
    recomputed = start("hooks.recompute_statistics.duration=4it").train().weights()
    different = {name for name in plain if (plain[name] != recomputed[name]).any()}
    assert different and all("running_" in name for name in different)


@pytest.mark.parametrize("hook", ["mixup", "cutmix"])
def test_mixed_images_are_refused(start, hook):
    with pytest.raises(ValueError, match=f"hooks.{hook} mixes images with one label each, not boxes: leave it out"):
        start(f"hooks.{hook}={{}}")


def test_what_does_not_go_together_is_told_in_a_sentence(start, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="detector_tiny is a detector, which task classification does not train"):
        start("task=classification")
    with pytest.raises(ValueError, match="data.image_size is 96, and detector_tiny takes images of 64 pixels"):
        start("data.image_size=96")
    with pytest.raises(ValueError, match="idle_tiny classifies images, but scattered_digits:32 has images with boxes"):
        start("model=idle_tiny")
    with pytest.raises(ValueError, match="model_options: "):
        start("model_options={depth: 3}")
    monkeypatch.setattr(building, "open_data", open_data)
    with pytest.raises(ValueError, match="detector_tiny is a detector, but synthetic:32 has images without boxes"):
        start("data.source=synthetic:32")
    with pytest.raises(ValueError, match="task detection trains detectors, such as .*, and idle_tiny classifies"):
        start("data.source=synthetic:32", "model=idle_tiny")


def test_a_task_of_networks_that_classify_refuses_detectors_in_every_form(start):
    for task in ("recalibrate", "gate", "slimmable"):
        with pytest.raises(ValueError, match=f"which task {task} does not train: set task=detection"):
            start(f"task={task}")


def test_pretrained_weights_of_a_detector_and_their_classes(start, tmp_path, caplog):
    first = start("duration=8it").train()
    path = tmp_path / "first.params"
    first.state.net.save_parameters(str(path))
    again = start(f"pretrained={path}", out="again")
    assert again.state.net.classes == list(CLASSES) and not caplog.records
    weights = first.weights()
    for name, value in weights.items():
        assert (again.weights()[name] == value).all(), name

    swapped = first.state.net
    before = swapped.predictions(mx.nd.ones((1, 3, 64, 64)))[0]
    assert swapped.reorder_classes(CLASSES[::-1])
    after = swapped.predictions(mx.nd.ones((1, 3, 64, 64)))[0]
    assert (after.take(mx.nd.array([0, 2, 1]), axis=2) == before).asnumpy().all()
    swapped.save_parameters(str(path))
    third = start(f"pretrained={path}", out="third")
    assert "put in the order of the data" in caplog.text
    # The same detector again: what was swapped is swapped back.
    for name, value in weights.items():
        assert (third.weights()[name] == value).all(), name

    swapped.reset_class(["a", "b", "c"])
    swapped.save_parameters(str(path))
    fourth = start(f"pretrained={path}", out="fourth")
    assert "'a', 'b', 'c' are gone" in caplog.text
    assert fourth.state.net.classes == list(CLASSES)
    kept = [name for name in again.weights() if ".class_heads." not in name]
    assert all((fourth.weights()[name] == again.weights()[name]).all() for name in kept)
    with pytest.raises(ValueError, match="leave model_options.pretrained_base out"):
        start(f"pretrained={path}", "model_options.pretrained_base=true")


def test_weights_of_the_network_below(start, tmp_path):
    base = get_model("idle_tiny", classes=5)
    base.initialize()
    base.save_parameters(str(tmp_path / "base.params"))
    options = f"model_options.pretrained_base={tmp_path / 'base.params'}"
    net = start(options, "data.normalization=pretrained").state.net
    stem = base.stages[0].collect_params().values()
    own = net.predictor.backbone.stages[0].collect_params().values()
    assert all((a.data().asnumpy() == b.data().asnumpy()).all() for a, b in zip(own, stem))


def test_card_travels_with_the_weights(start, tmp_path):
    run = start("data.mean=[100, 110, 120]", "data.std=[50, 50, 60]", "duration=2it").train()
    run.state.net.save_parameters(str(tmp_path / "w.params"))
    again = start(f"pretrained={tmp_path / 'w.params'}", "data.normalization=pretrained", out="again")
    assert again.state.data.settings.mean == (100, 110, 120)
    assert again.state.net.card.classes == list(CLASSES)


OTHERS = {
    "retinanet_mobilenext_x0_35": (128, ["class", "box"]),
    "faster_rcnn_mobilenet_v1_x0_25": (128, ["rpn_class", "rpn_box", "class", "box"]),
}


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_other_detectors_train_and_resume_by_the_same_task(start, name):
    side, parts = OTHERS[name]
    overrides = [f"model={name}", f"model_options.image_size={side}", f"data.image_size={side}", "data.batch_size=2"]
    overrides += ["data.source=scattered_digits:8", "optimizer.lr=0.001", "hooks.clip_gradients.max_norm=1"]
    whole = assert_resumes(start, *overrides)
    assert {f"loss_{part}" for part in parts} <= whole.state.scores.keys()
    assert {f"loss_{part}" for part in parts} <= whole.state.scalars.keys()
    assert np.isfinite(whole.state.scores["loss"]) and "map" in whole.state.scores


def test_a_run_of_faster_rcnn_ends_with_its_export(start):
    overrides = ["model=faster_rcnn_mobilenet_v1_x0_25", "model_options.image_size=64", "data.image_size=64"]
    run = start(*overrides, "data.batch_size=2", "data.source=scattered_digits:4", "optimizer.lr=0", "duration=1it")
    run.train()
    result = write_report(run.state, run.recipe, run.hooks)
    assert result["export_difference"] < 2e-5
    assert (run.state.out / f"{run.recipe.file_name}-symbol.json").is_file()


@pytest.mark.parametrize("name, why", [("", "net.at_width(w)")])
def test_a_run_of_what_cannot_be_exported_ends_with_its_report(start, name, why, capsys, monkeypatch):
    """Such runs were trained, and ended with the error of the export."""
    side = 64
    overrides = [f"model={name}", f"model_options.image_size={side}"] if name else []
    run = start(*overrides, "data.batch_size=2", "data.source=scattered_digits:4", "optimizer.lr=0", "duration=1it")
    run.train()
    if not name:
        monkeypatch.setattr(run.state.net, "not_exported", RoutedFSSD.not_exported)
    result = write_report(run.state, run.recipe, run.hooks)
    written = {path.name for path in run.state.out.iterdir()}
    assert {f"{run.recipe.file_name}.params", "result.json"} <= written and not any("symbol" in one for one in written)
    assert result["latency_ms"]["plain"] > 0 and "export_difference" not in result
    told = " ".join(capsys.readouterr().out.split())
    assert f"exported nothing: {run.recipe.model} " in told and why in told
