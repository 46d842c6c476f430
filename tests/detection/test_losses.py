"""Losses of detectors against the formulas in float64, and against PyTorch with its gradients."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_effnets.detection import Focal, Losses, Matching, MultiBox, get_detector
from gluon_effnets.detection.losses import smooth_l1

SMALL = "ssdlite320_mobilenext_x0_35"


def case(images=5, anchors=40, classes=4, seed=0, ignored=0.0):
    """Logits, offsets, target classes (an image of background alone among them) and target offsets."""
    random = np.random.RandomState(seed)
    wanted = random.randint(1, classes + 1, (images, anchors)) * (random.uniform(size=(images, anchors)) < 0.12)
    wanted = np.where(random.uniform(size=wanted.shape) < ignored, -1, wanted)
    wanted[1] = 0
    logits, offsets = random.normal(0, 3, (images, anchors, classes + 1)), random.normal(0, 2, (images, anchors, 4))
    return logits, offsets, wanted, random.normal(0, 2, offsets.shape) * (wanted > 0)[..., None]


def smooth(x, beta):
    x = np.abs(x)
    return np.where(x < beta, 0.5 * x**2 / beta, x - beta / 2) if beta else x


def entropies(logits):
    return np.log(np.exp(logits).sum(axis=-1, keepdims=True)) - logits


def multi_box(logits, offsets, classes, wanted, negatives=3, beta=1.0):
    """Sums and count, image by image."""
    of_classes = of_boxes = 0.0
    for loss, offset, target, own in zip(entropies(logits), offsets, classes, wanted):
        positive = target > 0
        of_classes += loss[positive, target[positive]].sum()
        hard = sorted(loss[target == 0, 0], reverse=True)
        of_classes += sum(hard[: int(negatives * positive.sum())])
        of_boxes += smooth(offset - own, beta)[positive].sum()
    return of_classes, of_boxes, (classes > 0).sum()


def focal(logits, offsets, classes, wanted, alpha=0.25, gamma=2.0, weight=1.0, beta=1.0, background=True):
    of_classes = 0.0
    logits = logits if background else logits[..., 1:]
    p = 1 / (1 + np.exp(-logits))
    for n, a in np.argwhere(classes >= 0):
        for k in range(logits.shape[2]):
            is_there = classes[n, a] > 0 and classes[n, a] - (0 if background else 1) == k
            right, share = (p[n, a, k], alpha) if is_there else (1 - p[n, a, k], 1 - alpha)
            of_classes -= share * (1 - right) ** gamma * np.log(right)
    return weight * of_classes, smooth(offsets - wanted, beta)[classes > 0].sum(), (classes > 0).sum()


def arrays(*values):
    return [mx.nd.array(value, dtype="float32") for value in values]


def numbers(losses):
    assert losses.sums.keys() == losses.counts.keys() == {"class", "box"}
    assert losses.counts["class"].asscalar() == losses.counts["box"].asscalar()
    return [losses.sums["class"].asscalar(), losses.sums["box"].asscalar(), losses.counts["box"].asscalar()]


@pytest.mark.parametrize("options", [{}, {"negatives": 1, "beta": 0.11}, {"negatives": 100, "beta": 0.0}])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_multi_box(options, ignored):
    values = case(ignored=ignored)
    assert numbers(MultiBox(**options)(*arrays(*values))) == pytest.approx(multi_box(*values, **options), rel=2e-5)


@pytest.mark.parametrize(
    "options", [{}, {"weight": 5.0}, {"alpha": 0.6, "gamma": 1.5, "beta": 0.11}, {"background": False}]
)
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_focal(options, ignored):
    values = case(ignored=ignored)
    assert numbers(Focal(**options)(*arrays(*values))) == pytest.approx(focal(*values, **options), rel=2e-5)


def test_an_image_without_a_box_adds_nothing_to_multi_box_and_its_negatives_to_focal():
    logits, offsets, classes, wanted = case()
    without = [array[1:2] for array in (logits, offsets, classes, wanted)]
    assert not without[2].any()
    assert numbers(MultiBox()(*arrays(*without))) == [0, 0, 0]
    found = numbers(Focal()(*arrays(*without)))
    assert found[0] > 0 and found[1:] == [0, 0]


def test_sums_add_up_over_batches():
    values = case()
    for criterion in (MultiBox(), Focal()):
        whole = numbers(criterion(*arrays(*values)))
        parts = [numbers(criterion(*arrays(*(array[half] for array in values)))) for half in (slice(2), slice(2, None))]
        assert np.sum(parts, axis=0) == pytest.approx(whole, rel=1e-5)


def test_extreme_logits_are_finite_with_gradients():
    logits, offsets, classes, wanted = arrays(*case())
    logits = logits * 100
    for criterion in (MultiBox(), Focal()):
        logits.attach_grad()
        with autograd.record():
            loss = criterion(logits, offsets, classes, wanted).sums["class"]
        loss.backward()
        assert np.isfinite(loss.asscalar()) and np.isfinite(logits.grad.asnumpy()).all()


def gradients(criterion, values):
    logits, offsets, classes, wanted = arrays(*values)
    for array in (logits, offsets):
        array.attach_grad()
    with autograd.record():
        sums, counts = criterion(logits, offsets, classes, wanted)
        loss = sum(sums[part] / mx.nd.maximum(1, counts[part]) for part in sums)
    loss.backward()
    return loss.asscalar(), logits.grad.asnumpy(), offsets.grad.asnumpy()


@pytest.mark.parametrize("kind", ["multi-box", "focal"])
def test_values_and_gradients_are_those_of_pytorch(kind):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    values = case(seed=4)
    logits, offsets = (torch.tensor(array, requires_grad=True) for array in values[:2])
    classes, wanted = torch.tensor(values[2]), torch.tensor(values[3])
    positive = classes > 0
    if kind == "multi-box":  # as torchvision's SSD.compute_loss
        loss = functional.cross_entropy(logits.reshape(-1, 5), classes.reshape(-1), reduction="none")
        loss = loss.view(classes.shape)
        hardness = loss.detach().clone()
        hardness[positive] = -float("inf")
        rank = hardness.sort(1, descending=True)[1].sort(1)[1]
        of_classes = loss[positive].sum() + loss[rank < 3 * positive.sum(1, keepdim=True)].sum()
    else:  # as torchvision's sigmoid_focal_loss
        there = functional.one_hot(classes, 5).double()
        there[..., 0] = 0
        p = torch.sigmoid(logits)
        entropy = functional.binary_cross_entropy_with_logits(logits, there, reduction="none")
        right = p * there + (1 - p) * (1 - there)
        share = 0.25 * there + 0.75 * (1 - there)
        of_classes = (share * entropy * (1 - right) ** 2).sum()
    of_boxes = functional.smooth_l1_loss(offsets[positive], wanted[positive], reduction="sum")
    total = (of_classes + of_boxes) / positive.sum()
    total.backward()
    found = gradients(MultiBox() if kind == "multi-box" else Focal(), values)
    assert found[0] == pytest.approx(total.item(), rel=1e-5)
    for own, other in zip(found[1:], (logits.grad, offsets.grad)):
        assert np.abs(own - other.numpy()).max() < 1e-5 * max(1, np.abs(other.numpy()).max())


@pytest.mark.parametrize("beta", [1.0, 0.11, 0.0])
def test_smooth_l1(beta):
    x = np.linspace(-3, 3, 61)
    assert smooth_l1(mx.nd.array(x), beta).asnumpy() == pytest.approx(smooth(x, beta), abs=1e-6)


def batch(images=2, seed=0):
    random = np.random.RandomState(seed)
    first = random.uniform(0, 0.6, (images, 3, 2))
    boxes = np.concatenate([first, first + random.uniform(0.1, 0.4, first.shape)], axis=2)
    x = random.standard_normal((images, 3, 320, 320))
    return arrays(x, boxes, random.randint(0, 2, (images, 3)))


def detector(**options):
    mx.random.seed(0)
    net = get_detector(SMALL, 2, **options)
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    return net


@pytest.mark.parametrize("form", ["voc", "coco"])
def test_losses_of_a_detector(form):
    net = detector(form=form)
    assert isinstance(net.criterion, {"voc": MultiBox, "coco": Focal}[form])
    x, boxes, label = batch()
    found = net.losses(x, boxes, label)
    assert isinstance(found, Losses)
    logits, offsets = net.predictions(x)
    targets = Matching()(net.anchors, boxes, label)
    wanted = net.criterion(logits, offsets, *targets)
    assert numbers(found) == numbers(wanted) and found.counts["box"].asscalar() >= 6


def test_focal_loss_begins_with_small_probabilities_also_after_reset_class():
    net = detector(form="coco")
    for classes in (2, 4):
        net.reset_class(classes)
        biases = [head.output.bias.data().asnumpy() for head in net.predictor.class_heads]
        assert all(bias == pytest.approx(-np.log(99), rel=1e-6) for bias in biases)
        weight = net.predictor.class_heads[0].output.weight.data().asnumpy()
        assert weight.std() == pytest.approx(0.01, rel=0.1)
    assert not any(head.output.bias.data().asnumpy().any() for head in net.predictor.box_heads)
    assert not any(head.output.bias.data().asnumpy().any() for head in detector(form="voc").predictor.class_heads)


def test_training_goes_through_the_compiled_graph_and_evaluation_waits_for_it():
    net = detector()
    x, boxes, label = batch()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01})
    values = []
    for _ in range(6):
        with autograd.record():
            sums, counts = net.losses(x, boxes, label)
            loss = sum(sums[part] / mx.nd.maximum(1, counts[part]) for part in sums)
        loss.backward()
        assert net.predictor._has_trained
        trainer.step(1, ignore_stale_grad=True)
        values.append(loss.asscalar())
    assert values[-1] < 0.8 * values[0]
    native = pytest.importorskip("gluon_effnets.native")
    assert (net.predictor._for_training[1] is not None) == bool(native.load())
    net(x)
    assert not net.predictor._has_trained, "the statistics of the last backward pass were waited for"
