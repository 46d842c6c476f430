"""A hook that averages weights over the end of a run."""

from gluon_effnets.train.durations import to_updates
from gluon_effnets.train.hooks import Hook


class SWA(Hook):
    """Plain average of the weights after every update from `begin` on; its norm is among the scores."""

    def __init__(self, begin: str = "0.5run"):
        self.begin, self.count, self.average = begin, 0, {}

    def train_begin(self, state):
        self._first = to_updates(self.begin, state.updates_per_epoch, state.total_updates)

    def batch_end(self, state):
        if state.update < self._first:
            return
        self.count += 1
        for name, param in state.net._collect_params_with_prefix().items():
            average = self.average.setdefault(name, param.data().zeros_like())
            average += (param.data() - average) / self.count

    def eval_end(self, state):
        state.scores["swa_norm"] = sum(float(array.norm().asscalar()) for array in self.average.values())

    def state_dict(self):
        return {"count": self.count, "average": self.average}

    def load_state_dict(self, values):
        self.count, self.average = values["count"], values["average"]


def not_a_class():
    """What a recipe may name by mistake."""
