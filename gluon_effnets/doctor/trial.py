"""A trial of training and of reading, in a process of its own: prints one line of JSON.

python -m gluon_effnets.doctor.trial step PRECISION DEVICE FILE
python -m gluon_effnets.doctor.trial decode THREADS
python -m gluon_effnets.doctor.trial exchange
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable, Dict

from .._mxnet import mx

_SIDE, _BATCH = 64, 8
_PHOTO = (375, 500)  # as most of ImageNet's
_SECONDS = 1.5


def step(precision: str, device: str, file: str) -> Dict[str, Any]:
    """One training step of a small network; writes its gradients, and returns loss and images per second."""
    import numpy as np

    from ..models import get_model
    from ..train.losses import soft_cross_entropy, soft_targets
    from ..train.precision import Precision

    ctx = mx.gpu(0) if device == "gpu" else mx.cpu()
    kind = Precision(precision, ctx)
    mx.random.seed(0)
    net = get_model("mobilenet_v3_small", classes=10)
    net.initialize(ctx=ctx)
    net.hybridize(static_alloc=True, static_shape=device == "cpu")
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.0}, kvstore=None)
    kind.prepare(trainer)
    random = np.random.RandomState(0)
    x = mx.nd.array(random.standard_normal((_BATCH, 3, _SIDE, _SIDE)), ctx=ctx)
    target = soft_targets(mx.nd.array(random.randint(0, 10, _BATCH), ctx=ctx), 10, 0.1)

    def once() -> mx.nd.NDArray:
        with mx.autograd.record():
            loss = soft_cross_entropy(net(x), target)
        kind.backward(loss, trainer)
        return loss

    loss = float(once().asscalar())
    scale = kind.scaler.loss_scale if kind.scaler else 1.0
    params = [param for _, param in sorted(net._collect_params_with_prefix().items()) if param.grad_req != "null"]
    np.save(file, np.concatenate([param.grad().asnumpy().ravel() for param in params]) / scale)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < _SECONDS:
        once()
        mx.nd.waitall()
        count += _BATCH
    return {"loss": loss, "images_per_s": count / (time.perf_counter() - begin), "operators": kind.operators}


def decode(threads: str) -> Dict[str, Any]:
    """Decode and augment a photograph again and again in threads; returns images per second."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from ..train.data import DataSettings
    from ..train.data.augment import augment_photo, cv2_module
    from ..train.data.decode import decode_image

    cv2 = cv2_module()
    cv2.setNumThreads(0)
    random = np.random.RandomState(0)
    noise = cv2.resize(random.randint(0, 255, (40, 50, 3), dtype=np.uint8), _PHOTO[::-1], interpolation=cv2.INTER_CUBIC)
    encoded = cv2.imencode(".jpg", noise)[1].tobytes()
    settings = DataSettings(source="synthetic")

    def once(number: int) -> None:
        augment_photo(decode_image(encoded, "a photograph"), settings, np.random.RandomState(number))

    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(once, range(8)))
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < _SECONDS:
            list(pool.map(once, range(32)))
            count += 32
    return {"images_per_s": count / (time.perf_counter() - begin)}


def exchange() -> Dict[str, Any]:
    """Sum an array of ten million numbers over the workers of a job; returns their number and megabytes per second."""
    from ..train.dist import start_workers

    workers = start_workers(True)
    array = mx.nd.ones(10_000_000, ctx=workers.device()) * (workers.rank + 1)
    workers.average_([array], "warm")
    mx.nd.waitall()
    begin = time.perf_counter()
    workers.average_([array], "timed")
    mx.nd.waitall()
    seconds = time.perf_counter() - begin
    mean = float(array[:1].asscalar())
    is_right = abs(mean - (workers.size + 1) / 2) < 1e-5
    workers.finish()
    return {"rank": workers.rank, "workers": workers.size, "right": is_right, "mb_per_s": 40 / seconds}


_TRIALS: Dict[str, Callable[..., Dict[str, Any]]] = {"step": step, "decode": decode, "exchange": exchange}

if __name__ == "__main__":
    answer = _TRIALS[sys.argv[1]](*sys.argv[2:])
    if not answer.get("rank"):
        print(json.dumps(answer), flush=True)
