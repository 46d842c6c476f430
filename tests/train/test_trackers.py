"""Hooks that hand the numbers of a run to MLflow and to Weights & Biases."""

import inspect
import sys

import pytest
import trackers
import yaml
from waiting import wait_until

from gluon_effnets.train.hooks import make_hooks

EVERY = ("duration=4it", "evaluate_every=2it", "checkpoint_every=2it")


def write_recipe(run):
    run.state.out.mkdir(parents=True, exist_ok=True)
    (run.state.out / "recipe.yaml").write_text(yaml.safe_dump(run.recipe.as_dict()))
    return run


@pytest.fixture
def stand_ins(monkeypatch):
    trackers.install(monkeypatch)


def test_mlflow_gets_losses_scores_and_the_recipe(start, stand_ins):
    run = write_recipe(start("hooks={mlflow: {every: 2, experiment: mine}}", *EVERY)).train()
    ((uri, store),) = trackers.MlflowClient.stores.items()
    assert uri == (run.state.out.resolve().parent / "mlruns").as_uri() and list(store["experiments"]) == ["mine"]
    (told,) = store["runs"].values()
    losses = {metric.step: metric.value for metric in told["metrics"] if metric.key == "train/loss"}
    assert sorted(losses) == [2, 4] and all(value > 0 for value in losses.values())
    assert {metric.step for metric in told["metrics"] if metric.key == "val/top1"} == {2, 4}
    assert told["params"]["data.batch_size"] == "8" and told["params"]["model"] == "idle_tiny"
    assert told["name"] == run.state.out.name and told["ended"]


def test_wandb_gets_losses_scores_and_the_recipe(start, stand_ins):
    run = write_recipe(start("hooks={wandb: {every: 2}}", *EVERY)).train()
    (told,) = trackers.RUNS
    assert told.about["mode"] == "offline" and told.about["dir"] == str(run.state.out) and told.finished
    assert told.about["config"]["optimizer.name"] == "nag"
    assert [step for step, values in told.logged if "train/loss" in values] == [2, 4]
    assert [step for step, values in told.logged if "val/top1" in values] == [2, 4]


def test_a_resumed_run_goes_on_where_it_was_known(start, stand_ins):
    changes = ("hooks={mlflow: {every: 1}, wandb: {every: 1, mode: online}}", *EVERY)
    start(*changes, out="run").train_until_killed(3)
    start(*changes, out="run").resume().train()
    (store,) = trackers.MlflowClient.stores.values()
    assert len(store["runs"]) == 1 and store["runs"]["run 0"]["ended"]
    first, second = trackers.RUNS
    assert (first.about["resume"], second.about["resume"], second.about["id"]) == (None, "allow", first.id)
    start(*changes, out="run").train()  # anew
    assert len(store["runs"]) == 2 and trackers.RUNS[-1].about["id"] is None


@pytest.mark.fast
def test_the_store_may_be_named(stand_ins, monkeypatch):
    (hook,) = make_hooks({"mlflow": {"tracking_uri": "file:///tmp/elsewhere"}})
    assert hook.tracking_uri == "file:///tmp/elsewhere"
    with pytest.raises(ValueError, match=r"hooks.wandb.*choose 'offline' or 'online'"):
        make_hooks({"wandb": {"mode": "loud"}})


@pytest.mark.fast
@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_missing_package_is_one_sentence_and_a_command(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        make_hooks({name: {}})
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"{name} cannot be imported") and first.endswith(f"needed for: the hook {name}.")
    assert second.startswith("Install it with: ") and package in second


def test_mlflow_itself_keeps_a_run_in_a_folder(start, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = write_recipe(start("hooks={mlflow: {every: 2}}", *EVERY)).train()
    client = mlflow.MlflowClient(tracking_uri=(run.state.out.resolve().parent / "mlruns").as_uri())
    (experiment,) = [one for one in client.search_experiments() if one.name == "gluon_effnets"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["data.batch_size"] == "8"
    assert [metric.step for metric in client.get_metric_history(found.info.run_id, "train/loss")] == [2, 4]


def test_wandb_itself_keeps_a_run_offline(start, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = write_recipe(start("hooks={wandb: {every: 2}}", *EVERY)).train()
    (kept,) = (run.state.out / "wandb").glob("offline-run-*/*.wandb")
    wait_until(lambda: kept.stat().st_size)  # a process of its own writes it


def test_the_stand_ins_take_what_the_packages_take():
    """Where they are installed; every word of a stand-in is one of the package's."""
    wandb, mlflow = pytest.importorskip("wandb"), pytest.importorskip("mlflow")
    assert set(inspect.signature(trackers.init).parameters) <= set(inspect.signature(wandb.init).parameters)
    for name in ("get_experiment_by_name", "create_experiment", "create_run", "log_batch", "set_terminated"):
        ours, theirs = (getattr(client, name) for client in (trackers.MlflowClient, mlflow.MlflowClient))
        assert set(inspect.signature(ours).parameters) <= set(inspect.signature(theirs).parameters), name
