"""Darts: the search for cells by gradients, of weights on one half of the images, of the architecture on the other."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, List, Sequence

import mxnet as mx
from mxnet import autograd

from ...models.darts_search import SearchNet
from ..batch_statistics import statistics_layers
from ..evaluation import placed
from ..hooks.architecture import Architecture
from ..losses import soft_cross_entropy, soft_targets
from ..metrics import classification_sums
from .base import Task

__all__ = ["Darts", "unrolled_gradients"]

_RADIUS = 0.01  # of the finite difference

Arrays = Sequence[mx.nd.NDArray]


class Darts(Task):
    """A step changes the architecture weights by a batch of the images kept back, then the others by the batch it has.

    The network is a `SearchNet`, the hook `architecture` the optimizer of its architecture weights, and
    `data.kept_back` the share of the training images that these learn from. First order: the gradient at the weights as
    they are. Second order: at the weights after a step of their own optimizer, whose dependence on the architecture is
    found by a finite difference, as MXNet differentiates no gradient; it takes five passes in place of two.

    Scores are those of the mixture of all operations, not of the cells that are chosen in the end.

    Args:
        order: 1 or 2.
        label_smoothing: Share of the target that goes to all classes alike.

    Source: DARTS, arXiv 1806.09055, sections 2.3 and 2.4.
    """

    def __init__(self, order: int = 1, label_smoothing: float = 0.0):
        if order not in (1, 2):
            raise ValueError(f"task_options.order is {order}; it must be 1 or 2")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"task_options.label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.order, self.label_smoothing = int(order), label_smoothing

    def prepare(self, state, hooks):
        if not isinstance(state.net, SearchNet):
            raise ValueError(f"task darts searches in model darts_search, not in {state.net.identity['model']}")
        found = [hook for hook in hooks if isinstance(hook, Architecture)]
        if not found:
            raise ValueError("task darts needs the optimizer of its architecture weights: set hooks.architecture={}")
        if state.workers.size > 1 or state.accumulate > 1:
            raise ValueError("task darts searches on one worker and with accumulate=1")
        optimizer = state.trainer._optimizer
        if self.order == 2 and (type(optimizer) is not mx.optimizer.SGD or state.precision.scales_loss):
            raise ValueError("task_options.order=2 unrolls a step of optimizer sgd in float32: set both, or order=1")
        state.data.kept_back_batch(0)  # which refuses data without these images
        self._architecture = found[0]
        for param in state.net.architecture:
            param.data().attach_grad()

    def step(self, state, batch, backward):
        other = placed(state.data.kept_back_batch(state.update), state.ctx)
        params = state.net.architecture
        arrays = [param.data() for param in params]
        if self.order == 1:
            # As in DARTS's code, this pass moves the running statistics, too.
            with autograd.record():
                searched = self._loss(state, other)
            gradients = autograd.grad(searched, arrays)
        else:
            searched, gradients = self._second_order(state, batch, other, arrays)
        self._architecture.change(params, gradients)
        with autograd.record():
            loss = self._loss(state, batch)
        backward(loss)
        return {"loss": loss, "architecture_loss": searched}

    def evaluate(self, state, batch):
        return classification_sums(state.net(batch.data), batch.label, batch.num_valid)

    def _loss(self, state, batch) -> mx.nd.NDArray:
        target = soft_targets(batch.label, state.net.num_classes, self.label_smoothing)
        return soft_cross_entropy(state.net(batch.data), target)

    def _second_order(self, state, batch, other, architecture: Arrays):
        trainer, optimizer = state.trainer, state.trainer._optimizer
        # The trainer has it when the gradients are complete.
        rate = state.base_lr * state.schedule(state.update + 1)
        params = [param for param in trainer._params if param.grad_req != "null"]
        states = trainer._updaters[0].states
        momenta = [states.get(trainer._param2idx[param.name]) for param in params]

        def stepped(weights: Arrays, gradients: Arrays) -> List[mx.nd.NDArray]:
            """The weights after the next step of their optimizer, if it had this gradient, unclipped."""
            found = []
            for param, weight, gradient, momentum in zip(params, weights, gradients, momenta):
                change = (gradient + optimizer.wd * param.wd_mult * weight) * (rate * param.lr_mult)
                found.append(weight - change + (0 if momentum is None else optimizer.momentum * momentum))
            return found

        with _statistics_kept(state.net):
            return unrolled_gradients(
                [param.data() for param in params],
                architecture,
                lambda: self._loss(state, batch),
                lambda: self._loss(state, other),
                stepped,
                rate,
            )


def unrolled_gradients(
    weights: Arrays,
    architecture: Arrays,
    train_loss: Callable[[], mx.nd.NDArray],
    loss: Callable[[], mx.nd.NDArray],
    stepped: Callable[[Arrays, Arrays], Arrays],
    rate: float,
) -> Any:
    """Return a loss behind a step of the weights, and its gradients by the architecture; the weights stay.

    These are d loss(w', a) / da - rate * d2 train_loss(w, a) / (da dw) * d loss(w', a) / dw', the product by a central
    difference of two gradients.

    Args:
        weights, architecture: What both losses depend on, with gradients attached.
        train_loss, loss: Compute the two losses anew.
        stepped: (weights, gradients of `train_loss`) -> the weights w' after a step.
        rate: Learning rate of that step.

    Source: DARTS, arXiv 1806.09055, equations 7 and 8.
    """

    def gradients(function: Callable, of: Arrays) -> Any:
        with autograd.record():
            value = function()
        return value, autograd.grad(value, list(of))

    def set_to(values: Arrays) -> None:
        for array, value in zip(weights, values):
            array[:] = value

    start = [array.copy() for array in weights]
    set_to(stepped(start, gradients(train_loss, weights)[1]))
    value, found = gradients(loss, [*architecture, *weights])
    direct, ahead = found[: len(architecture)], found[len(architecture) :]
    norm = float(mx.nd.multi_sum_sq(*ahead, num_arrays=len(ahead)).sum().sqrt().asscalar())
    if norm > 0:
        radius, sides = _RADIUS / norm, []
        for sign in (1, -1):
            set_to([array + sign * radius * toward for array, toward in zip(start, ahead)])
            sides.append(gradients(train_loss, architecture)[1])
        direct = [one - rate * (up - down) / (2 * radius) for one, up, down in zip(direct, *sides)]
    set_to(start)
    return value, direct


@contextlib.contextmanager
def _statistics_kept(net: SearchNet) -> Iterator[None]:
    """Leave the running statistics as they were: they are not of weights that are only tried."""
    mx.nd.waitall()
    arrays = [param.data() for layer in statistics_layers(net) for param in (layer.running_mean, layer.running_var)]
    before = [array.copy() for array in arrays]
    yield
    mx.nd.waitall()
    for array, value in zip(arrays, before):
        array[:] = value
