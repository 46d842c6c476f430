"""Slimmable: several widths of one network trained in every update, the narrow ones by soft targets."""

from __future__ import annotations

import copy
from typing import List, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import autograd

from ...models import SlimmableNet
from ..hooks.ema import EMA
from ..losses import soft_cross_entropy, soft_targets
from ..memory_format import Layout
from .base import Task
from .width_scores import Which, require_slimmable, width_list, width_sums

__all__ = ["Slimmable"]

TARGETS = ("bootstrap", "ensemble", "distill")
Path = Tuple[int, ...]


class Slimmable(Task):
    """The sandwich: the largest network, `num_random` random sub-networks, the slimmest; one update for all.

    The largest learns the labels; the losses are added. What the others learn is decided by `targets`:

    bootstrap : all of them what the moving average of the largest network says (in-place bootstrapping: the default of
        DS-Net's code).
    ensemble : the random ones that; the slimmest the mean of what the moving average says at the largest and at the
        random widths (in-place ensemble bootstrapping: DS-Net, arXiv 2103.13258, section 3.2).
    distill : what the largest network says in the same update (in-place distillation: arXiv 1903.05134, the baseline).

    The average is that of the hook `ema`, which the first two need (its decay is 0.997 there, without warm-up), and it
    answers as in evaluation, with statistics of its own. All soft targets have temperature 1.

    Args:
        targets: 'bootstrap', 'ensemble' or 'distill', as above.
        label_smoothing: Of the labels, for the largest network.
        num_random: Random sub-networks per update, 2 in both papers. They are drawn from all widths but the slimmest;
            where several choices make a path, each is drawn by itself from all widths. Seed and number of the update
            decide, so that all workers, and all batches of an update, have the same.
        ensemble_widths: 'student', the widths that the ensemble has are those that were trained; 'independent', they
            are drawn anew, as in DS-Net's code.
        evaluate: 'ends' (slimmest, widest and largest), 'all', or a list such as [0, 3, largest]. The scores top1,
            top5 and loss are those of the first.
    """

    def __init__(
        self,
        targets: str = "bootstrap",
        label_smoothing: float = 0.0,
        num_random: int = 2,
        ensemble_widths: str = "student",
        evaluate: Union[str, Sequence[Which]] = "ends",
    ):
        for name, value, choices in (
            ("targets", targets, TARGETS),
            ("ensemble_widths", ensemble_widths, ("student", "independent")),
        ):
            if value not in choices:
                raise ValueError(f"task_options.{name} is {value!r}; choose one of {', '.join(choices)}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task_options.label_smoothing is {label_smoothing}; it must be in [0, 1)")
        if num_random < 0:
            raise ValueError(f"task_options.num_random is {num_random}; it must be at least 0")
        self.targets, self.label_smoothing, self.ensemble_widths = targets, label_smoothing, ensemble_widths
        self._num_random, self._evaluate = num_random, evaluate
        self.backwards = 2 + num_random

    def prepare(self, state, hooks):
        net = state.net
        require_slimmable(net, "task slimmable")
        self._widths = width_list(net, self._evaluate)
        # Graphs with memory of their own, one per width, would need as much as all of them together.
        net.hybridize()
        if self.targets == "distill":
            return
        self._ema = next((hook for hook in hooks if isinstance(hook, EMA)), None)
        if self._ema is None:
            raise ValueError(
                f"task_options.targets {self.targets} needs a moving average of the weights: add\n"
                '--set "hooks.ema={decay: 0.997, warmup: false}", or choose targets: distill'
            )
        # The copy is for inference; it has nothing to do with the trainer that the parameters know.
        self._teacher = copy.deepcopy(net, {id(state.trainer): None})
        self._teacher.collect_params().setattr("grad_req", "null")
        self._teacher_is_average = False

    def step(self, state, batch, backward):
        net = state.net
        drawn, of_ensemble = draw_widths(net, self._num_random, [state.seed, state.update])
        labels = soft_targets(batch.label, net.num_classes, self.label_smoothing)
        with autograd.record():
            logits = net(batch.data)
            loss = soft_cross_entropy(logits, labels)
        backward(loss)
        losses = [loss]
        if self.targets == "distill":
            target = of_slimmest = mx.nd.softmax(logits.detach())
        else:
            ensemble = drawn if self.ensemble_widths == "student" else of_ensemble
            target, of_slimmest = self._ask_average(batch.data, ensemble if self.targets == "ensemble" else ())
        for which, soft in [*((path, target) for path in drawn), ("smallest", of_slimmest)]:
            with autograd.record():
                loss = soft_cross_entropy(net.subnet(which)(batch.data), soft)
            backward(loss)
            losses.append(loss)
        return {"loss": mx.nd.add_n(*losses), "loss_largest": losses[0], "loss_smallest": losses[-1]}

    def _ask_average(self, images: mx.nd.NDArray, widths: Sequence[Path]) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return the soft targets of the random widths and of the slimmest."""
        if not self._teacher_is_average:
            self._ema.keep_in(self._teacher)
            self._teacher_layout = Layout(self._teacher)
            self._teacher_is_average = True
        with autograd.predict_mode():
            target, *others = (mx.nd.softmax(self._teacher.subnet(which)(images)) for which in ("largest", *widths))
        self._teacher_layout.restore()
        return target, mx.nd.add_n(target, *others) / (1 + len(others)) if others else target

    def evaluate(self, state, batch):
        return width_sums(state.net, batch, self._widths)


def draw_widths(net: SlimmableNet, number: int, seed: Sequence[int]) -> Tuple[List[Path], List[Path]]:
    """Paths to train in an update, and as many for an ensemble of its own; the same wherever the seed is the same."""
    random = np.random.RandomState(seed)
    # With one choice that of the slimmest would be the slimmest network, which is trained anyway.
    drawn = random.randint(int(net.num_choices == 1), net.num_widths, (2 * number, net.num_choices))
    paths = [tuple(map(int, path)) for path in drawn]
    return paths[:number], paths[number:]
