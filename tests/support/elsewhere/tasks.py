"""A task with another loss."""

import mxnet as mx
from mxnet import autograd

from gluon_effnets.train.tasks import Classification


class Focal(Classification):
    """Cross-entropy weighted by (1 - p)^gamma, p being the probability of the class."""

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def step(self, state, batch, backward):
        with autograd.record():
            chosen = mx.nd.pick(mx.nd.log_softmax(state.net(batch.data)), batch.label)
            loss = -((1 - chosen.exp()) ** self.gamma * chosen).mean()
        backward(loss)
        return {"loss": loss}
