"""Dropout: MXNet's, whose masks follow the seed of a run on every device."""

from __future__ import annotations

from mxnet.gluon import nn

__all__ = ["Dropout"]


class Dropout(nn.Dropout):
    """As `mxnet.gluon.nn.Dropout`, but never by cuDNN: (N, ...) -> (N, ...).

    cuDNN's generator is seeded once, when it is made: `mx.random.seed` does not reach it, so that a resumed run would
    draw other masks. MXNet's own draws from the seed that the loop sets before every step, another one on every worker.
    """

    def hybrid_forward(self, F, x):
        if not self._rate:
            return F.identity(x)
        return F.Dropout(x, p=self._rate, axes=self._axes, name="fwd", cudnn_off=True)
