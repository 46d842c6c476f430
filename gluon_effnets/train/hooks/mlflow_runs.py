"""MLflow: the numbers and the recipe of the run in a tracking store, by default a folder."""

from __future__ import annotations

import os
import time
from typing import Any

from ..._requirements import optional_import
from ...files.text import shown
from .tracker import Tracker, keep_run_id, recipe_of, run_name

__all__ = ["MLflow"]

_MOST_PARAMS = 100  # of one call
_LONGEST_VALUE = 250  # that stores of every version take


class MLflow(Tracker):
    """Hands loss, learning rate and scores to MLflow, and the recipe as parameters.

    A resumed run goes on in the run of MLflow that it began.

    Args:
        every: Updates between two losses.
        experiment: The name of the experiment, which is made if it is not there.
        tracking_uri: The store; "": that of the variable MLFLOW_TRACKING_URI, without it the folder `mlruns` beside the
            run folder, which needs no server.
    """

    def __init__(self, every: int = 50, experiment: str = "gluon_effnets", tracking_uri: str = ""):
        super().__init__(every)
        self.experiment, self.tracking_uri = experiment, tracking_uri
        self._module = optional_import("mlflow", extra="mlflow", why="the hook mlflow")

    def open(self, state):
        beside = (state.out.resolve().parent / "mlruns").as_uri()
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or beside
        self._client = self._module.MlflowClient(tracking_uri=uri)
        self._run_id = keep_run_id(state, "mlflow")
        if self._run_id:
            return
        known = self._client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self._client.create_experiment(self.experiment)
        run = self._client.create_run(experiment, run_name=run_name(state))
        self._run_id = keep_run_id(state, "mlflow", run.info.run_id)
        entities = self._module.entities
        params = [entities.Param(key, shown(str(value), _LONGEST_VALUE)) for key, value in recipe_of(state).items()]
        for begin in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[begin : begin + _MOST_PARAMS])

    def add(self, state, values):
        now = int(time.time() * 1000)
        metrics: Any = [self._module.entities.Metric(k, float(v), now, state.update) for k, v in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, state):
        self._client.set_terminated(self._run_id)
