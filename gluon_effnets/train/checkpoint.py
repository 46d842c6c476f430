"""Checkpoints: folders that are complete or not there, without pickles, and the way back from them."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence

import mxnet as mx
import numpy as np

from ..files.locks import require_same
from ..files.params_header import load_arrays
from ..files.regular import sha256
from ..files.write import CannotWrite, remove_leftovers, replacing_folder, telling, write_arrays, write_text
from ..models import Card, ClassificationNet
from ..models.card import compare_names
from ..models.params import Stored, check_identity, require_finite
from ..models.registry import load_stored
from .checkpoint_folder import FORMAT, SUMS, Content, check, flatten, read, read_record, unflatten
from .durations import to_updates
from .hooks.average_statistics import average_statistics
from .hooks.base import Hook
from .multi_tensor import all_finite
from .not_finite import NotFinite
from .optim import fields_of
from .precision import Scaler
from .run_folder import folder_name, list_checkpoints, prune, renumber, set_aside, update_now
from .signals import Stopped
from .state import TrainState

__all__ = ["Checkpoint", "list_checkpoints", "load_last", "load_network", "read_weights", "save"]

log = logging.getLogger(__name__)


class Checkpoint(Hook):
    """Saves every `every` (a duration) and at the end; keeps the last `keep` folders, and the best by `best_of`.

    When a signal asked for the end of the run, saves and raises Stopped, on all workers after the same update.
    It is the last hook of a run: what another one did behind it, a resumed run would lack.

    Args:
        hooks: The others of the run, whose states it keeps.
        recipe: As plain values, for the record.
        every: Duration between two checkpoints.
        keep: Number of checkpoints to keep, besides the best.
        best_of: The score that decides which is the best, of the network or of its average.
    """

    def __init__(self, hooks: Sequence[Hook], recipe: dict, every: str = "1ep", keep: int = 2, best_of: str = "top1"):
        self._hooks, self._recipe = [*hooks, self], recipe
        self.every, self.keep, self.best_of = every, keep, best_of
        self.best: Dict[str, Any] = {}
        self._saved: Optional[int] = None

    def check(self, hooks: Sequence[Hook]) -> None:
        remedy = "give it to build(..., extra_hooks=[...])"
        if hooks[-1] is not self:
            name = type(hooks[-1]).__name__
            raise ValueError(f"hook {name} stands behind the checkpoint, which lacks what it did last: {remedy}")
        for hook in hooks:
            if hook not in self._hooks and type(hook).state_dict is not Hook.state_dict:
                raise ValueError(f"hook {type(hook).__name__} has a state that no checkpoint would keep: {remedy}")

    def train_begin(self, state):
        self._every = max(1, to_updates(self.every, state.updates_per_epoch, state.total_updates))
        if state.workers.is_writer:
            # There may be no further checkpoint, before which they would be removed.
            remove_leftovers(state.out / "checkpoints")

    def batch_end(self, state):
        evaluates = state.update % state.evaluate_every == 0 or state.update == state.total_updates
        if evaluates:
            return
        if state.update % self._every == 0:
            self._save(state)
        self._stop_if_asked(state)

    def eval_end(self, state):
        score = max((state.scores.get(key, 0) for key in (self.best_of, f"ema_{self.best_of}")), default=0)
        improved = score > self.best.get("score", -1) and bool(state.scores)
        if improved:
            which = self.best_of if state.scores.get(self.best_of, 0) == score else f"ema_{self.best_of}"
            place = {"update": state.update, "updates_per_epoch": state.updates_per_epoch}
            self.best = {"score": score, "which": which, **place}
        if improved or state.update % self._every == 0 or state.update == state.total_updates:
            self._save(state)
        self._stop_if_asked(state)

    def eval_stopped(self, state):
        self._save(state)

    def train_end(self, state):
        if state.stage.is_last:
            state.workers.pass_last_boundary()

    def _stop_if_asked(self, state):
        # Behind all boundaries of its evaluations.
        place = state.update + (0.5 if state.evaluations else 0)
        signum = state.workers.must_stop(state.stage.updates_before + place)
        if signum:
            if self._saved != state.update:
                self._save(state)
            raise Stopped(signum, state.update)

    def _save(self, state):
        average_statistics(state)
        state.workers.progress(f"saving the checkpoint of update {state.update}")
        for hook in self._hooks:
            hook.save_begin(state)
        _refuse_non_finite(state)
        self._saved = state.update
        if state.workers.is_writer:
            save(state, self._hooks, self._recipe)
            with telling(state.out):
                set_aside(state.out, state.update)
                prune(state.out, self.keep, self.best)

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, values):
        self.best = values["best"]


def _refuse_non_finite(state: TrainState) -> None:
    params = state.net._collect_params_with_prefix()
    # Indices of a condensed network are whole numbers.
    arrays = {name: param.data() for name, param in params.items() if np.dtype(param.dtype).kind == "f"}
    if not all_finite(list(arrays.values())).asscalar():
        name = next(name for name, array in arrays.items() if not mx.nd.all_finite(array).asscalar())
        raise NotFinite(f"{name} is not finite after update {state.update}", state)


def _named(hooks: Sequence[Hook]) -> Dict[str, Hook]:
    """The hooks by the names of their states: those of others with their module, a second one of a class numbered."""
    named: Dict[str, Hook] = {}
    for hook in hooks:
        kind = type(hook)
        own = kind.__module__.startswith(f"{__package__}.")
        name = kind.__name__ if own else f"{kind.__module__}:{kind.__qualname__}"
        count = sum(type(other) is kind for other in named.values())
        named[f"{name} {count + 1}" if count else name] = hook
    return named


def save(state: TrainState, hooks: Sequence[Hook], recipe: dict) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Raises:
        CannotWrite: The run folder is not there any more, or it cannot be written (disk full); the text names it, and
            earlier checkpoints are untouched.
    """
    require_same(state.out)
    final = state.out / "checkpoints" / folder_name(state.update)
    try:
        final.parent.mkdir(exist_ok=True)
        with replacing_folder(final) as folder:
            _write(folder, state, hooks, recipe)
    except OSError as error:
        raise CannotWrite(
            f"cannot save a checkpoint in {final.parent}: {error.strerror or error}. Is the disk full? The earlier "
            "checkpoints are untouched; the same command goes on from the last one."
        ) from None
    return final


def _write(folder: Path, state: TrainState, hooks: Sequence[Hook], recipe: dict) -> None:
    run = {"format": FORMAT, "update": state.update, "workers": state.workers.size, "recipe": recipe}
    run["updates_per_epoch"], run["scores"] = state.updates_per_epoch, state.scores
    if state.evaluation_due:
        run["evaluation_due"] = True
    run["identity"], run["operators"] = state.net.identity, state.precision.operators
    run["card"], run["digests"] = state.net.card.marks(), state.digests
    params = {key: p.data() for key, p in state.net._collect_params_with_prefix().items()}
    write_arrays(folder / "net.params", params)
    run["trainer"], arrays = flatten(_trainer_state(state))
    write_arrays(folder / "trainer.params", arrays)
    run["hooks"], arrays = flatten({name: hook.state_dict() for name, hook in _named(hooks).items()})
    write_arrays(folder / "hooks.params", arrays)
    write_text(folder / "run.json", json.dumps(run, indent=1))
    write_text(folder / SUMS, "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())))


def load_last(state: TrainState, hooks: Sequence[Hook]) -> Optional[dict]:
    """Restore the newest complete checkpoint of `state.out` and return its record (run.json); None if there is none.

    Rank 0 reads it and sends it to the others, which need not see the run folder. A damaged one is passed over with a
    warning. The place in the run is kept in epochs where an epoch has another number of updates now.

    Raises:
        ValueError: The checkpoint is of another network, or of other classes.
    """
    usable = _last_usable(state.out) if state.workers.is_writer else None
    with _on_all_workers(state, usable) as folder:
        if folder is None:
            return None
        content = read(folder)
        _restore(state, hooks, folder, content)
    if usable is not None:
        renumber(usable, state.update, state.updates_per_epoch)
    return content.run


def read_weights(folder: Path, ema: bool = False) -> Dict[str, mx.nd.NDArray]:
    """Return the weights in a checkpoint, or their moving average, by the places of the parameters.

    Raises FileNotFoundError if it is not there, ValueError if it is damaged or has no moving average.
    """
    if not (folder / "run.json").is_file():
        raise FileNotFoundError(f"no checkpoint at {folder}")
    check(folder)
    if not ema:
        return load_arrays(folder / "net.params")
    hooks = unflatten(read_record(folder)["hooks"], load_arrays(folder / "hooks.params"), folder)
    average = hooks.get("EMA", {}).get("average") if isinstance(hooks.get("EMA"), dict) else None
    if not average:
        raise ValueError(f"{folder} has no averaged weights: the run had no hook ema")
    if not isinstance(average, dict) or not all(isinstance(array, mx.nd.NDArray) for array in average.values()):
        raise ValueError(f"{folder} is damaged: its averaged weights are no arrays")
    return average


def load_network(folder: Path, ema: bool = False) -> ClassificationNet:
    """Return the network of a checkpoint, with its weights or with their moving average; errors as `read_weights`.

    Example: `load_network(Path("runs/digits/checkpoints/update-00000900"), ema=True).save_parameters("ema.params")`
    """
    arrays = read_weights(folder, ema)
    run = read_record(folder)
    stored = Stored(arrays, run["identity"], Card.taken_from(run.get("card", {}), f"the card in {folder}"))
    net = load_stored(run["identity"]["model"], stored, folder)
    require_finite(net, folder)
    return net


def _last_usable(out: Path) -> Optional[Path]:
    for folder in reversed(list_checkpoints(out)):
        try:
            read(folder)
            return folder
        # Also what was damaged before its sums were written.
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            log.warning("checkpoint %s cannot be used (%s); trying an older one", folder, error)
    return None


@contextlib.contextmanager
def _on_all_workers(state: TrainState, folder: Optional[Path]) -> Iterator[Optional[Path]]:
    """Rank 0's folder (or None), or a copy of it that lasts as long as the block."""
    if state.workers.size == 1:
        yield folder
        return
    files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder else None
    name, files = state.workers.broadcast_object((folder and folder.name, files), "checkpoint")
    if state.workers.is_writer or files is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gluon_effnets-") as temporary:
        copy = Path(temporary) / name
        copy.mkdir()
        for file, content in files.items():
            (copy / file).write_bytes(content)
        yield copy


def _restore(state: TrainState, hooks: Sequence[Hook], folder: Path, content: Content) -> None:
    run, loaded = content.run, content.net
    difference = compare_names(Card.taken_from(run.get("card", {}), f"the card in {folder}").classes, state.net.classes)
    if difference:
        raise ValueError(
            f"{state.out}: the classes of {state.data.settings.source} are not those that {folder.name} was trained "
            f"with: {difference}.\nGive them back, choose another --out, or --fresh to start over"
        )
    params = state.net._collect_params_with_prefix()
    if params.keys() != loaded.keys() or any(params[key].shape != loaded[key].shape for key in params):
        raise ValueError(
            f"{state.out}: {folder.name} is a checkpoint of another network ({run['recipe'].get('model')}); "
            "choose another --out, or --fresh to start over"
        )
    check_identity(state.net, run["identity"], folder)
    for what, digest in run.get("digests", {}).items():
        if state.digests.get(what, digest) != digest:
            raise ValueError(
                f"{state.out}: the weights of the {what} are others than those that {folder.name} was trained with; "
                "give them back, choose another --out, or --fresh to start over"
            )
    for key, param in params.items():
        param.set_data(loaded[key])
    _set_trainer_state(state, content.trainer)
    values = content.hooks
    for name, hook in _named(hooks).items():
        if name in values:
            hook.load_state_dict(values[name])
        elif hook.state_dict():
            log.warning("hook %s has no state in %s: it starts anew", name, folder)
    state.update, state.scores = run["update"], run["scores"]
    state.evaluation_due = bool(run.get("evaluation_due", False))
    _keep_epoch(state, run.get("updates_per_epoch", state.updates_per_epoch))


def _keep_epoch(state: TrainState, updates_per_epoch: int) -> None:
    """Convert what counts updates from an epoch of so many of them."""

    def now(count: int) -> int:
        return update_now(count, updates_per_epoch, state.updates_per_epoch)

    if updates_per_epoch != state.updates_per_epoch:
        state.update, optimizer = now(state.update), state.trainer._optimizer
        optimizer.num_update = now(optimizer.num_update)
        for counts in (optimizer._index_update_count, *optimizer._all_index_update_counts.values()):
            counts.update({index: now(count) for index, count in counts.items()})


def _trainer_state(state: TrainState) -> dict:
    """States of the optimizer, by the names of the parameters within the network."""
    trainer = state.trainer
    names = {param.name: key for key, param in state.net._collect_params_with_prefix().items()}
    keys = {index: names[param.name] for index, param in enumerate(trainer._params)}
    optimizer, scaler = trainer._optimizer, getattr(trainer, "_amp_loss_scaler", None)
    return {
        "optimizer": type(optimizer).__name__,
        # None stands for "no momentum"; left out, it is made when a later recipe wants one.
        "states": {keys[i]: value for i, value in trainer._updaters[0].states.items() if value is not None},
        "fields": {name: getattr(optimizer, name) for name in fields_of(optimizer)},
        "loss_scaler": {name: getattr(scaler, name) for name in Scaler.fields} if scaler else {},
    }


def _set_trainer_state(state: TrainState, saved: dict) -> None:
    trainer = state.trainer
    scaler = getattr(trainer, "_amp_loss_scaler", None)
    for name in Scaler.fields if scaler else ():
        if name in saved["loss_scaler"]:
            setattr(scaler, name, saved["loss_scaler"][name])
    if saved["optimizer"] != type(trainer._optimizer).__name__:
        now = type(trainer._optimizer).__name__
        log.warning("optimizer %s cannot go on with the states of %s: it starts anew", now, saved["optimizer"])
        return
    names = {param.name: key for key, param in state.net._collect_params_with_prefix().items()}
    for updater in trainer._updaters:
        updater.states = {
            index: saved["states"][names[param.name]]
            for index, param in enumerate(trainer._params)
            if names[param.name] in saved["states"]
        }
        updater.states_synced = dict.fromkeys(updater.states, False)  # moved to the weights' context on first use
    for name in fields_of(trainer._optimizer):
        if name in saved["fields"]:
            setattr(trainer._optimizer, name, saved["fields"][name])
    counts = trainer._optimizer._index_update_count
    trainer._optimizer._all_index_update_counts = {ctx.device_id: dict(counts) for ctx in trainer._contexts}
