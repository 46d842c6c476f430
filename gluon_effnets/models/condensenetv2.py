"""CondenseNetV2 (Yang et al., arXiv 2104.04382), in the definition of the authors' code.

==================  ===============  ==================  =====================
block               A (G=C=S=8)      B (6)               C (8)
==================  ===============  ==================  =====================
1: ReLU             1 layer,  k 8    2 layers, k 6       4 layers,  k 8
2: ReLU             1 layer,  k 8    4 layers, k 12      6 layers,  k 16
3: h-swish          4 layers, k 16   6 layers, k 24      8 layers,  k 32
4: h-swish, SE      6 layers, k 32   8 layers, k 48      10 layers, k 64
5: h-swish, SE      8 layers, k 64   6 layers, k 96      8 layers,  k 128
dense layer         828              1024                1024
==================  ===============  ==================  =====================

CondenseNet with a sparse feature reactivation in every layer: new features update the old ones (`DenseLayer`). SE of a
layer is not reduced; another one, reduced 16 times, stands behind the global pooling, then a dense layer with h-swish.
G, C and S are groups and factors of the learned 1x1 convolutions and of the reactivation. No half classifier.

The paper calls the module "conv, BN, ReLU"; the code, followed here, is BN, activation, convolution. It sets the gammas
of these BN layers to 0 in the module, and to 1 again in the network: they start at 1.

A and B are evaluated with bicubic interpolation, C with bilinear.

The published count of multiply-adds has 5 % of non-convolutions in it (docs/condensenet.md).
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

from ..nn import Grouping
from .condensenet import CondenseNet, DenseBlock, Plan
from .info import Deployment
from .registry import register_model

__all__ = [
    "cifar_condensenet_v2_110",
    "cifar_condensenet_v2_146",
    "condensenet_v2",
    "condensenet_v2_a",
    "condensenet_v2_b",
    "condensenet_v2_c",
]

PAPER = "CondenseNet V2: Sparse Feature Reactivation for Deep Networks, arXiv 2104.04382"
ABLATION = "the paper's table of ablations could not be read: its modules are left out of A one by one, by our choice"
CIFAR = (
    "neither paper nor code gives the configurations for CIFAR; of those that were searched, this one comes closest to "
    "the published {} MFLOPs and {} M parameters (convolutions and fully connected layers alone)"
)


def condensenet_v2(
    layers: Sequence[int],
    growth: Sequence[int],
    groups: int = 8,
    *,
    use_sfr: bool = True,
    use_se: bool = True,
    use_hard_swish: bool = True,
    hard_swish_from: int = 2,
    se_from: int = 3,
    last_se: Optional[int] = 16,
    head_hidden: Optional[int] = None,
    factor: Optional[int] = None,
    update_factor: Optional[int] = None,
    update_groups: Optional[int] = None,
    **options: Any,
) -> CondenseNet:
    """Build a CondenseNetV2.

    Args:
        layers, growth: Per block.
        groups: Of all 1x1 and 3x3 convolutions (G).
        use_sfr, use_se, use_hard_swish: False leaves out the reactivations, all squeeze-and-excitation, or takes ReLU
            for h-swish in every block: the modules of the paper, one by one.
        hard_swish_from, se_from: The first block, from 0, with h-swish instead of ReLU, and with SE.
        last_se: Reduction of the SE behind the global pooling; None: without it.
        head_hidden: Width of the dense layer before the classifier; None: without it.
        factor: Condensation factor of the learned convolutions (C); None: `groups`.
        update_factor, update_groups: Sparsity factor (S) and groups of the reactivations; None: `groups`.
        options: Those of `CondenseNet`.

    Raises ValueError if the lists are not of one length, or for channels that groups and factors do not divide.
    """
    if len(layers) != len(growth):
        raise ValueError(f"{len(layers)} blocks with {len(growth)} growth rates")
    blocks = tuple(
        DenseBlock(
            number,
            rate,
            "hard_swish" if use_hard_swish and index >= hard_swish_from else "relu",
            use_se and index >= se_from,
        )
        for index, (number, rate) in enumerate(zip(layers, growth))
    )
    learned = Grouping(groups, groups if factor is None else factor)
    update = Grouping(
        groups if update_groups is None else update_groups, groups if update_factor is None else update_factor
    )
    plan = Plan(blocks, learned, groups, update if use_sfr else None, last_se if use_se else None, head_hidden)
    return CondenseNet(plan, **options)


def _sized(options: Dict[str, Any], layers: Sequence[int], growth: Sequence[int], groups: int, **own: Any):
    """A network of the tables; what `options` say counts before its own numbers."""
    numbers = {"layers": layers, "growth": growth, "groups": groups, **own}
    return condensenet_v2(**{**numbers, **options})


@register_model(family="condensenetv2", paper=PAPER, interpolation="pillow_bicubic")
def condensenet_v2_a(**options) -> CondenseNet:
    """CondenseNetV2-A: 2.0 M parameters and 43.1 M MAdds when condensed (published 2.0 M, 46 M)."""
    return _sized(options, (1, 1, 4, 6, 8), (8, 8, 16, 32, 64), 8, head_hidden=828)


def _register_ablation(name: str, told: str, **options: Any) -> None:
    def build(**given: Any) -> CondenseNet:
        return condensenet_v2_a(**{**options, **given})

    build.__name__ = build.__qualname__ = f"condensenet_v2_a_{name}"
    build.__doc__ = f"CondenseNetV2-A {told}."
    globals()[build.__name__] = register_model(
        family="condensenetv2", paper=PAPER, reconstruction=ABLATION, interpolation="pillow_bicubic"
    )(build)
    __all__.append(build.__name__)


# The paper's modules, one by one.
_register_ablation("without_sfr", "without reactivations: 2.0 M parameters, 40.1 M MAdds when condensed", use_sfr=False)
_register_ablation(
    "without_se", "without squeeze-and-excitation: 1.9 M parameters, 43.0 M MAdds when condensed", use_se=False
)
_register_ablation("without_hard_swish", "with ReLU for h-swish, at equal cost", use_hard_swish=False)
_register_ablation(
    "growth_16", "with growth 16 everywhere: 1.2 M parameters, 46.8 M MAdds when condensed", growth=(16,) * 5
)


@register_model(family="condensenetv2", paper=PAPER, interpolation="pillow_bicubic")
def condensenet_v2_b(**options) -> CondenseNet:
    """CondenseNetV2-B: 3.6 M parameters and 140.5 M MAdds when condensed (published 3.6 M, 146 M)."""
    return _sized(options, (2, 4, 6, 8, 6), (6, 12, 24, 48, 96), 6, head_hidden=1024)


@register_model(family="condensenetv2", paper=PAPER, representative=(Deployment(), Deployment(aligned=True)))
def condensenet_v2_c(**options) -> CondenseNet:
    """CondenseNetV2-C: 6.2 M parameters and 295.8 M MAdds when condensed (published 6.1 M, 309 M)."""
    return _sized(options, (4, 6, 8, 10, 8), (8, 16, 32, 64, 128), 8, head_hidden=1024)


def _cifar(layers: int, **options) -> CondenseNet:
    return _sized(options, (layers,) * 3, (6, 12, 24), 6, stem_stride=1, se_from=0)


@register_model(family="condensenetv2", paper=PAPER, reconstruction=CIFAR.format(41, 0.48), input_size=32, classes=10)
def cifar_condensenet_v2_110(**options) -> CondenseNet:
    """CondenseNetV2-110 for CIFAR, our configuration: 18 layers a block, growth 6-12-24, G = 6."""
    return _cifar(18, **options)


@register_model(family="condensenetv2", paper=PAPER, reconstruction=CIFAR.format(62, 0.78), input_size=32, classes=10)
def cifar_condensenet_v2_146(**options) -> CondenseNet:
    """CondenseNetV2-146 for CIFAR, our configuration: 24 layers a block, growth 6-12-24, G = 6."""
    return _cifar(24, **options)


@register_model(
    family="condensenetv2",
    paper=PAPER,
    reconstruction="not of the paper: for tests",
    input_size=32,
    classes=10,
    hidden=True,
    small=True,
)
def condensenet_v2_tiny(**options) -> CondenseNet:
    """Three blocks of two layers, for tests of pruning and conversion."""
    options = {"stem_stride": 1, **options}
    return condensenet_v2(
        (2, 2, 2), (8, 16, 32), 4, **{"hard_swish_from": 1, "se_from": 2, "head_hidden": 64, **options}
    )


@register_model(
    family="condensenetv2",
    paper=PAPER,
    reconstruction="not of the paper: for short runs on a CPU",
    input_size=32,
    classes=10,
    hidden=True,
)
def condensenet_v2_small(**options) -> CondenseNet:
    """condensenet_small and reactivations: no h-swish, no SE; its last block is narrower for the same cost."""
    plain = {"hard_swish_from": 3, "se_from": 3, "last_se": None}
    return _sized(options, (6, 6, 6), (8, 16, 32), 4, stem_stride=1, **plain)
