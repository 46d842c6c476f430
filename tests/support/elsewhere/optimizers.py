"""An optimizer that MXNet has not."""

import mxnet as mx


class Lion(mx.optimizer.Optimizer):
    """Steps of the sign of an interpolated momentum."""

    durations = ("pause",)

    def __init__(self, beta1: float = 0.9, beta2: float = 0.99, pause: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.beta1, self.beta2, self.pause = beta1, beta2, pause

    def create_state(self, index, weight):
        return mx.nd.zeros_like(weight)

    def update(self, index, weight, grad, state):
        self._update_count(index)
        grad = grad * self.rescale_grad
        direction = mx.nd.sign(self.beta1 * state + (1 - self.beta1) * grad)
        if self.num_update > self.pause:
            weight -= self._get_lr(index) * (direction + self._get_wd(index) * weight)
        state *= self.beta2
        state += (1 - self.beta2) * grad
