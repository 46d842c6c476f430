"""Stand-ins for MLflow and Weights & Biases that record what they are told, by the signatures of their documentation.

mlflow.client.MlflowClient and mlflow.entities of MLflow 2.22, wandb.init and wandb.Run of W&B 0.19: a word that these
do not take is a TypeError here, too.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any, List, NamedTuple


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    key: str
    value: str


class MlflowClient:
    """Runs by their names, in a list for all clients of one store."""

    stores: dict = {}

    def __init__(self, tracking_uri=None, registry_uri=None):
        self.store = self.stores.setdefault(tracking_uri, {"experiments": {}, "runs": {}})

    def get_experiment_by_name(self, name):
        known = self.store["experiments"].get(name)
        return known and SimpleNamespace(experiment_id=known)

    def create_experiment(self, name, artifact_location=None, tags=None):
        return self.store["experiments"].setdefault(name, f"id of {name}")

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        assert experiment_id in self.store["experiments"].values()
        run_id = f"run {len(self.store['runs'])}"
        self.store["runs"][run_id] = {"name": run_name, "metrics": [], "params": {}, "ended": False}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        assert len(params) <= 100 and all(len(param.value) <= 6000 for param in params)
        self.store["runs"][run_id]["metrics"] += metrics
        self.store["runs"][run_id]["params"].update(params)

    def set_terminated(self, run_id, status=None, end_time=None):
        self.store["runs"][run_id]["ended"] = True


class WandbRun:
    def __init__(self, about):
        self.about, self.id, self.logged, self.finished = about, about["id"] or f"run{len(RUNS)}", [], False

    def log(self, data, step=None, commit=None, sync=None):
        self.logged.append((step, data))

    def finish(self, exit_code=None, quiet=None):
        self.finished = True


RUNS: List[WandbRun] = []


def init(
    entity=None, project=None, dir=None, id=None, name=None, notes=None, tags=None, config=None,
    config_exclude_keys=None, config_include_keys=None, allow_val_change=None, group=None, job_type=None, mode=None,
    force=None, anonymous=None, reinit=None, resume=None, resume_from=None, fork_from=None, save_code=None,
    tensorboard=None, sync_tensorboard=None, monitor_gym=None, settings=None,
) -> Any:  # fmt: skip
    assert mode in ("online", "offline", "disabled", None) and resume in ("allow", "never", "must", "auto", None)
    RUNS.append(WandbRun({"project": project, "dir": dir, "id": id, "name": name, "config": config, "resume": resume,
                          "mode": mode}))  # fmt: skip
    return RUNS[-1]


def install(monkeypatch) -> None:
    """Let `import mlflow` and `import wandb` find the stand-ins, without anything in them."""
    MlflowClient.stores.clear()
    RUNS.clear()
    mlflow, wandb = ModuleType("mlflow"), ModuleType("wandb")
    mlflow.MlflowClient, mlflow.entities = MlflowClient, SimpleNamespace(Metric=Metric, Param=Param)
    wandb.init = init
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
