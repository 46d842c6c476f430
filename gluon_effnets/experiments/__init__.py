"""Networks trained to be compared: what is compared is a file in configs/experiments/, and a queue trains it."""

from .. import _mxnet  # noqa: F401  before all that needs it
from .collect import collect, experiment_table
from .definition import Comparison, Experiment, list_experiments, read_experiment
from .images import first_images
from .queue import Job, jobs_of, run_queue

__all__ = [
    "Comparison",
    "Experiment",
    "Job",
    "collect",
    "experiment_table",
    "first_images",
    "jobs_of",
    "list_experiments",
    "read_experiment",
    "run_queue",
]
