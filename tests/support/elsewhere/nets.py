"""A network of somebody else."""

from mxnet.gluon import nn

from gluon_effnets.models import ClassificationNet, StageInfo


class SmallNet(ClassificationNet):
    """One convolution, BN and a classifier."""

    def __init__(self, width: int, **options):
        super().__init__(**options)
        with self.name_scope():
            stage = nn.HybridSequential()
            stage.add(
                nn.Conv2D(width, 3, 2, 1, in_channels=self.in_channels, use_bias=False),
                nn.BatchNorm(in_channels=width),
                nn.Activation("relu"),
            )
            self.features = nn.HybridSequential()
            self.features.add(stage, nn.GlobalAvgPool2D(), nn.Flatten())
            self.num_features, self.stage_info = width, [StageInfo(width, 2)]
            self._make_output()


def small_net(width: int = 8, **options) -> SmallNet:
    """A network in three lines."""
    return SmallNet(width, **options)


def dense(classes: int, in_channels: int) -> nn.Dense:
    """What is no network of ours."""
    return nn.Dense(classes, in_units=in_channels)
