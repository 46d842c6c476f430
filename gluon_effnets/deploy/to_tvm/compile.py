"""ONNX files compiled with Apache TVM, tuned within a number of trials; stand-alone, for any interpreter that has TVM.

MXNet and TVM need not share an environment: this file imports nothing of the package, and runs by its path:
`python compile.py NET.onnx NET.so --trials N --database DIR`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

__all__ = ["AARCH64", "Compiled", "build_for", "compile_onnx", "tvm_runner"]

# The rule of deploy/compare.py, which this file cannot import, since users copy it to where TVM is: in standard
# deviations of the expected answer, or so many times what float32 alone does to the network.
TOLERANCE = 2e-5
ROUNDINGS = 3
# The extra "tvm" of _requirements.py, which this file cannot import.
INSTALL = "install it with: make tvm, or {python} -m pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1"
# Below this number of multiply-adds (or copied values), waking a thread is taken to cost more than it saves.
PARALLEL_FROM = 200_000
# What an operator is assumed to take until it is measured, in multiply-adds per second.
ASSUMED_SPEED = 3e10
MOST_TILES = 12  # of one operator
FAILED = 1e10  # seconds; MetaSchedule's own mark of a schedule that does not compile


class Compiled(NamedTuple):
    """What `compile_onnx` made: operators in the graph, those with a measured schedule, trials in all and in this call.

    `estimate_ms` is the sum of the operators' best times on one thread, None while one of them is not measured;
    `difference` the largest one from the expected answer in standard deviations, None without such an answer.
    """

    library: str
    processor: str
    tvm: str
    operators: int
    tuned: int
    trials: int
    new_trials: int
    estimate_ms: Optional[float]
    difference: Optional[float]


def host_name() -> str:
    """Return LLVM's name of the processor that this runs on."""
    from tvm.target import codegen

    return codegen.llvm_get_system_cpu()


class Processor(NamedTuple):
    """The processor's name for LLVM, float32 values in one of its vectors, and vector registers.

    `triple`: LLVM's name of another kind of machine than this one.
    """

    name: str
    lanes: int
    registers: int
    triple: Optional[str] = None

    @classmethod
    def host(cls) -> Processor:
        """The processor that this runs on."""
        from tvm.target import Target, codegen

        name = host_name()
        target = Target({"kind": "llvm", "mcpu": name})
        for feature, lanes, registers in (("avx512f", 16, 32), ("avx", 8, 16), ("neon", 4, 32)):
            if codegen.target_has_features(feature, target):
                return cls(name, lanes, registers)
        return cls(name, 4, 16)

    @property
    def target(self):
        """The target of the compiler."""
        from tvm.target import Target

        return Target({"kind": "llvm", "mcpu": self.name, **({"mtriple": self.triple} if self.triple else {})})


# Any 64-bit ARM processor: vectors of NEON, which all of them have.
AARCH64 = Processor("generic", 4, 32, "aarch64-linux-gnu")


class Tile(NamedTuple):
    """The part of an operator's output (..., width, channels) that one pass over the inputs computes in registers."""

    width: int
    channels: int
    channels_first: bool  # the outermost loop goes through the channels, so that a part of the weights stays in cache


@dataclasses.dataclass
class Operator:
    """One fused operator of the graph, and what is known of its schedules."""

    name: str
    module: Any  # the IRModule whose function main it is
    calls: int
    tiles: List[Tile]
    multiply_adds: int
    tried: int = 0
    seconds: float = FAILED  # of the best schedule, or FAILED

    @property
    def cost(self) -> float:
        """Seconds in one run of the network, assumed if they are not known."""
        known = self.seconds < FAILED
        return self.calls * (self.seconds if known else self.multiply_adds / ASSUMED_SPEED)


def compile_onnx(
    path,
    library,
    database=None,
    trials: int = 0,
    expected: Optional[Tuple[np.ndarray, np.ndarray]] = None,
    progress: Optional[Callable[[str], None]] = None,
    threads: int = 1,
    rounding: float = 0.0,
) -> Compiled:
    """Compile an ONNX file of `export --batch N` for this processor into a shared library for `tvm_runner`.

    Convolutions become NHWC; the tiles of every operator are chosen by rule, or are the best that `database` (a folder)
    has.

    Parameters
    ----------
    path, library : the ONNX file, and the file to write.
    database : a folder that keeps the trials; every trial is in it when the next begins, and the next call goes on from
        there.
    trials : how many schedules more are measured first, one thread each, where the network's time goes.
    expected : `data` and the logits for it. The library is loaded again and compared.
    progress : receives a line after each trial.
    threads : with 1 the library has no parallel loops, which even on one thread take longer.
    rounding : the difference that the JSON file beside the ONNX file has, of float32 answers from the exact ones.

    Raises FileNotFoundError, ImportError without TVM, ValueError for a file that is not ours or has no fixed batch, for
    trials without a folder, and if an answer differs by more than 2e-5 of their standard deviation, or three
    times `rounding`. Then an older library stays.
    """
    path, library = Path(path), Path(library)
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}")
    if trials < 0:
        raise ValueError(f"the number of trials is {trials}; it must be at least 0")
    if trials and database is None:
        raise ValueError("trials need a folder that keeps what they find: --database DIR")
    tvm = require_tvm()
    processor = Processor.host()
    module = _lowered(path, processor)
    operators = _operators(module, processor)
    with _opened(database, processor) as records:
        _read_records(records, operators)
        before = sum(operator.tried for operator in operators)
        _tune(records, operators, processor, trials, progress)
        scheduled = {op.name: _scheduled(records, op, processor, parallel=threads > 1) for op in operators}
    difference = _write(module, scheduled, processor, library, expected, rounding)
    tried = sum(operator.tried for operator in operators)
    tuned = sum(operator.seconds < FAILED for operator in operators)
    return Compiled(
        library=str(library),
        processor=processor.name,
        tvm=tvm.__version__,
        operators=len(operators),
        tuned=tuned,
        trials=tried,
        new_trials=tried - before,
        estimate_ms=_milliseconds(operators) if tuned == len(operators) else None,
        difference=difference,
    )


def build_for(path, processor: Processor):
    """Return TVM's executable of an ONNX file of `export --batch N` for a processor, perhaps another one than this.

    Schedules are by rule, for one thread. Its `export_library` takes the linker, such as cc="aarch64-linux-gnu-g++".
    Raises as `compile_onnx`.
    """
    require_tvm()
    module = _lowered(Path(path), processor)
    operators = [operator for operator in _operators(module, processor) if operator.tiles]
    scheduled = {op.name: _applied(op, _schedule(op, op.tiles[0], processor).trace, parallel=False) for op in operators}
    return _built(module, scheduled, processor)


def tvm_runner(library, processor: Optional[str] = None, trust: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function (N, C, H, W) -> logits of a library that `compile_onnx` wrote, for the N of its ONNX file.

    It uses TVM_NUM_THREADS threads, or one for each core. A library is code, which runs as soon as it is loaded.

    Parameters
    ----------
    library : the file.
    processor : that it was compiled for, `Compiled.processor`; another one could end the process by an instruction that
        it does not have.
    trust : whether its code may run: you compiled it yourself, or trust who did.

    Raises FileNotFoundError, ImportError without TVM, ValueError
    for a file that is no such library, one for another processor than this, or one that is not trusted.
    """
    if not trust:
        raise ValueError(
            f"{library} is a library, whose code runs as soon as it is loaded; nothing tells what it does. "
            "If you compiled it yourself, or trust who did, add --trust-library, or trust=True in Python"
        )
    tvm = require_tvm()
    from tvm import relax

    if not Path(library).is_file():
        raise FileNotFoundError(f"no library at {library}")
    if processor not in (None, host_name()):
        raise ValueError(f"{library} is for the processor {processor}, and this one is {host_name()}; compile it here")
    try:
        machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
        function = machine["main"]
    except Exception:  # its errors have no common class of their own
        raise ValueError(f"{library} is no library that this version of TVM can load; compile it again") from None
    return lambda x: function(tvm.runtime.tensor(np.ascontiguousarray(x, np.float32))).numpy()


def require_tvm():
    """Return the module tvm. Raises ImportError with what to do about it."""
    try:
        import tvm

        return tvm
    # OSError, RuntimeError: an apache-tvm-ffi that does not fit apache-tvm.
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        install = INSTALL.format(python=sys.executable)
        raise ImportError(f"TVM cannot be imported by {sys.executable} ({reason[0]}); {install}") from None


# -- From ONNX to fused operators ------------------------------------------------------------------------------------


def _lowered(path: Path, processor: Processor):
    """The IRModule of an ONNX file: main, and one function for every different fused operator."""
    import onnx
    import tvm
    from tvm.relax import transform
    from tvm.relax.frontend.onnx import from_onnx

    try:
        model = onnx.load(str(path))
        [given] = model.graph.input
    except Exception:  # protobuf's DecodeError is not always the same class
        raise ValueError(f"{path} is no ONNX file of this package, or it is cut short") from None
    shape = [size.dim_value for size in given.type.tensor_type.shape.dim]
    if not all(shape):
        raise ValueError(f"{path} takes any number of images, but TVM compiles for one: export it with --batch 1")
    module = from_onnx(model, keep_params_in_input=False)
    to_nhwc = transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]})
    fusing = [transform.LegalizeOps(), transform.AnnotateTIROpPattern(), transform.FoldConstant(), transform.FuseOps()]
    with processor.target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential([transform.DecomposeOpsForInference()])(_rewritten(module))
        module = _rewritten(to_nhwc(module))
        module = tvm.transform.Sequential([*fusing, transform.FuseTIR(), transform.DeadCodeElimination()])(module)
    return module


def _rewritten(module):
    """The module without what stands in the way of layouts and costs time: clip, and constants in other shapes."""
    import tvm
    from tvm import relax
    from tvm.relax.expr_functor import PyExprMutator, mutator

    @mutator
    class Rewriter(PyExprMutator):
        def visit_call_(self, call):
            call = self.visit_expr_post_order(call)
            name = call.op.name if isinstance(call.op, tvm.ir.Op) else ""
            if name == "relax.clip":  # ConvertLayout does not know it
                low, high = (relax.const(float(bound.value), "float32") for bound in call.args[1:])
                return relax.op.minimum(relax.op.maximum(call.args[0], low), high)
            if name in ("relax.permute_dims", "relax.reshape"):  # TVM would compile each of them
                source = call.args[0]
                constant = self.lookup_binding(source) if isinstance(source, relax.Var) else source
                if isinstance(constant, tvm.ir.expr.GenericConst):
                    values = constant.value.numpy()
                    if name == "relax.permute_dims":
                        return relax.const(np.ascontiguousarray(values.transpose(*map(int, call.attrs.axes))))
                    return relax.const(values.reshape([int(size) for size in call.args[1].values]))
            return call

    module["main"] = Rewriter(module).visit_expr(module["main"])
    return relax.transform.Normalize()(module)


def _operators(module, processor: Processor) -> List[Operator]:
    import tvm
    from tvm import relax, tirx

    calls: Dict[str, int] = {}

    def count(expression):
        if isinstance(expression, relax.Call) and expression.op == tvm.ir.Op.get("relax.call_tir"):
            name = expression.args[0].name_hint
            calls[name] = calls.get(name, 0) + 1

    relax.analysis.post_order_visit(module["main"], count)
    operators = []
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            name = variable.name_hint
            own = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
            operators.append(Operator(name, own, calls.get(name, 0), *_tiles(own, processor)))
    return operators


# -- Schedules -------------------------------------------------------------------------------------------------------


def _divisors(number: int) -> List[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


class _Blocks:
    """A new schedule of an operator, and its blocks: one reduction or none, what is computed inside, the output."""

    def __init__(self, module):
        from tvm import s_tir

        self.schedule = s_tir.Schedule(module)
        blocks = list(self.schedule.get_child_blocks(self.schedule.get_sblock("root")))
        reductions = [block for block in blocks if self._sizes(block, 2)]
        self.reduction = reductions[0] if reductions else None
        if reductions and self._same(blocks[-1], self.reduction):
            blocks.append(self.schedule.cache_write(self.reduction, 0, "local"))
        self.output = blocks.pop()
        self.inner = [block for block in blocks if not (reductions and self._same(block, self.reduction))]
        self.sizes = self._sizes(self.output, 0)
        self.reduced = self._sizes(self.reduction, 2) if reductions else []
        # The rule below is for one reduction and an output (..., width, channels).
        self.fits = len(reductions) < 2 and len(self.sizes) > 1

    def _same(self, one, other) -> bool:
        return self.schedule.get(one).same_as(self.schedule.get(other))

    def _sizes(self, block, kind: int) -> List[int]:
        """Of the axes of a block: of kind 0, the axes of its result, or 2, those that it sums over."""
        return [int(axis.dom.extent) for axis in self.schedule.get(block).iter_vars if axis.iter_type == kind]

    @property
    def own_weights(self) -> bool:
        """Whether channels are added up from others, as in all but depthwise convolutions and means."""
        return bool(self.reduced) and self.reduced[-1] > 1 and len(self.schedule.get(self.reduction).reads) > 1


def _tiles(module, processor: Processor) -> Tuple[List[Tile], int]:
    """The tiles of an operator that fit the registers, the best by rule first; and its multiply-adds."""
    blocks = _Blocks(module)
    multiply_adds = math.prod(blocks.sizes) * math.prod(blocks.reduced)
    if not blocks.fits:
        return [], multiply_adds
    width, channels = blocks.sizes[-2:]
    # LLVM makes slow code of vectors whose length is not a power of two.
    lanes = math.gcd(channels, processor.lanes)
    if not blocks.reduced:
        return [Tile(1, size, False) for size in (lanes, lanes // 2, lanes // 4) if size], multiply_adds
    rated = []
    weights_first = channels * math.prod(blocks.reduced) > math.prod(blocks.sizes[:-1]) * blocks.reduced[-1]
    for part in _divisors(width):
        for vectors in _divisors(channels // lanes):
            sums = part * vectors
            loads = vectors + (part if blocks.own_weights else sums)
            if sums + (vectors + 1 if blocks.own_weights else 2) > processor.registers:
                continue
            # Two loads go with one multiply-add, and eight of these must be under way at a time.
            rating = (max(sums, loads / 2, 8) + 0.05 * loads) / sums
            for other_order in (False, True):
                tile = Tile(part, vectors * lanes, weights_first != other_order)
                rated.append((round(rating + 0.1 * other_order, 3), -sums, tile))
    return [tile for _, _, tile in sorted(rated)][:MOST_TILES], multiply_adds


def _schedule(operator: Operator, tile: Tile, processor: Processor):
    """One pass for every tile: its sums stay in registers, and what follows the reduction is computed on them."""
    blocks = _Blocks(operator.module)
    schedule = blocks.schedule
    for block in blocks.inner:
        schedule.compute_inline(block)
    lanes = math.gcd(tile.channels, processor.lanes)
    *loops, width, channels = schedule.get_loops(blocks.output)
    width, inner_width = schedule.split(width, [None, tile.width])
    channels, vectors, lane = schedule.split(channels, [None, tile.channels // lanes, lanes])
    outer = [channels, *loops, width] if tile.channels_first else [*loops, width, channels]
    schedule.reorder(*outer, inner_width, vectors, lane)
    _unroll(schedule, inner_width, vectors, lane)
    outermost = schedule.fuse(*outer)
    if operator.multiply_adds > PARALLEL_FROM:
        schedule.parallel(outermost)
    if blocks.reduced:
        schedule.compute_at(blocks.reduction, outermost, preserve_unit_loops=True)
        schedule.set_scope(blocks.reduction, 0, "local")
        own = list(schedule.get_loops(blocks.reduction))[1:]
        results, sums = own[: len(blocks.sizes)], own[len(blocks.sizes) :]
        *results, channels = results
        vectors, lane = schedule.split(channels, [None, lanes])
        schedule.reorder(*sums, *results, vectors, lane)
        _unroll(schedule, results[-1], vectors, lane)
        zeros = schedule.decompose_reduction(blocks.reduction, sums[0])
        _unroll(schedule, *list(schedule.get_loops(zeros))[-3:])
    return schedule


def _unroll(schedule, width, vectors, lane) -> None:
    schedule.unroll(width)
    schedule.unroll(vectors)
    schedule.vectorize(lane)


# -- Tuning ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _opened(folder, processor: Processor) -> Iterator[Any]:
    """The tuning database of this processor and TVM in a folder, which is made; one in memory without a folder.

    Raises ValueError while another process has it.
    """
    import fcntl

    from tvm.s_tir.meta_schedule.database import JSONDatabase, MemoryDatabase

    if folder is None:
        yield MemoryDatabase()
        return
    folder = Path(folder) / f"tvm-{require_tvm().__version__}-{processor.name}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another process tunes with {folder}; wait for it, or name another folder") from None
        for path in folder.glob("database_*.json"):
            _drop_cut_line(path)
        yield JSONDatabase(work_dir=str(folder))


def _drop_cut_line(path: Path) -> None:
    """Remove the line that a killed process was writing: TVM would refuse the whole file."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))


def _read_records(records, operators: Sequence[Operator]) -> None:
    """Put into the operators what is known of them."""
    seconds: Dict[Any, List[float]] = {}
    for record in records.get_all_tuning_records():
        seconds.setdefault(record.workload, []).append(float(record.run_secs[0]))
    for operator in operators:
        known = seconds.get(records.commit_workload(operator.module), [])
        operator.tried, operator.seconds = len(known), min(known, default=FAILED)


def _tune(records, operators: Sequence[Operator], processor: Processor, trials: int, progress) -> None:
    """Measure up to `trials` schedules that were not measured before, and add them to the records."""
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo
    from tvm.s_tir.meta_schedule.database import TuningRecord

    for trial in range(1, trials + 1):
        waiting = [operator for operator in operators if operator.tried < len(operator.tiles)]
        if not waiting:
            break
        # Where the time is; the less the more often it was tried, as the tiles are sorted.
        operator = max(waiting, key=lambda operator: operator.cost / (1 + operator.tried) ** 2)
        schedule = _schedule(operator, operator.tiles[operator.tried], processor)
        seconds = _measure(_applied(operator, schedule.trace, parallel=False), processor)
        workload, arguments = records.commit_workload(operator.module), ArgInfo.from_entry_func(operator.module)
        records.commit_tuning_record(
            TuningRecord(schedule.trace, workload, [seconds], processor.target, list(arguments))
        )
        operator.tried += 1
        operator.seconds = min(operator.seconds, seconds)
        if progress:
            measured = sum(operator.seconds < FAILED for operator in operators)
            progress(
                f"trial {trial}/{trials}: {measured} of {len(operators)} operators measured, "
                f"one run takes about {_milliseconds(operators):.2f} ms on one thread"
            )


def _milliseconds(operators: Sequence[Operator]) -> float:
    return 1e3 * sum(operator.cost for operator in operators)


def _measure(function, processor: Processor) -> float:
    """Seconds of an operator on one thread; FAILED if it does not compile."""
    import tvm

    try:
        library = tvm.compile(tvm.IRModule({"main": function}), processor.target).mod
    except Exception as error:  # the compiler's errors have no common class of their own
        print(f"a schedule does not compile: {str(error).splitlines()[-1]}", file=sys.stderr)
        return FAILED
    random = np.random.RandomState(0)
    shapes = [[int(size) for size in parameter.ty.shape] for parameter in function.params]
    arguments = [tvm.runtime.tensor(random.standard_normal(shape).astype(np.float32)) for shape in shapes]
    # Short windows: on a busy machine some of them are not interrupted.
    timed = library.time_evaluator("main", tvm.cpu(), number=1, repeat=30, min_repeat_ms=1)(*arguments)
    return float(min(timed.results))


def _scheduled(records, operator: Operator, processor: Processor, parallel: bool):
    """The operator's function with its best known schedule, or the one by rule."""
    if operator.seconds < FAILED:
        [best] = records.get_top_k(records.commit_workload(operator.module), 1)
        return _applied(operator, best.trace, parallel)
    if not operator.tiles:
        return operator.module["main"]
    return _applied(operator, _schedule(operator, operator.tiles[0], processor).trace, parallel)


def _applied(operator: Operator, trace, parallel: bool):
    """The operator's function after the steps of a schedule, with or without the one that makes a loop parallel."""
    from tvm import s_tir

    steps = [step for step in trace.insts if parallel or step.kind.name != "Parallel"]
    schedule = s_tir.Schedule(operator.module)
    s_tir.schedule.Trace(steps, trace.decisions).apply_to_schedule(schedule, remove_postproc=False)
    return schedule.mod["main"]


# -- The library -----------------------------------------------------------------------------------------------------


def refusal(difference: float, rounding: float) -> Optional[str]:
    """Return the sentence that refuses a library for its difference, None if that is allowed."""
    allowed = max(TOLERANCE, ROUNDINGS * rounding)
    if difference <= allowed:
        return None
    return f"TVM's library differs by {difference:.1e} of the logits' standard deviation; {allowed:.0e} is allowed"


def _built(module, scheduled, processor: Processor):
    """TVM's executable of a module with functions that are scheduled."""
    import tvm
    from tvm import relax

    for variable in module.get_global_vars():
        if variable.name_hint in scheduled:
            function = scheduled[variable.name_hint].without_attr("global_symbol")
            module[variable] = function.with_attr("tirx.is_scheduled", True)
    with tvm.transform.PassContext(opt_level=3):
        return relax.build(module, processor.target)


def _write(module, scheduled, processor: Processor, library: Path, expected, rounding: float) -> Optional[float]:
    """Build the library, load it again, and put it in its place; the difference from the expected answer."""
    built = _built(module, scheduled, processor)
    library.parent.mkdir(parents=True, exist_ok=True)
    written = library.with_name(f".{library.stem}-{os.getpid()}.so")
    try:
        try:
            built.export_library(str(written))
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"the library could not be linked, which needs g++: {reason}") from None
        run, difference = tvm_runner(written, trust=True), None
        if expected is not None:
            data, logits = expected
            logits = logits.astype(np.float64)  # squares of 1e20 are none in float32
            difference = float(np.abs(run(data) - logits).max() / (logits.std() or 1))
            refused = refusal(difference, rounding)
            if refused:
                raise ValueError(refused)
        # As files.write does it, of which this file knows nothing.
        for path, then in ((written, library), (library.parent, None)):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
            if then:
                os.replace(path, then)
    finally:
        with contextlib.suppress(FileNotFoundError):
            written.unlink()
    return difference


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Compile one file; print what was made as JSON. Mistakes are one message on standard error, and exit code 1."""
    parser = argparse.ArgumentParser(description="compile an ONNX file with TVM")
    parser.add_argument("onnx")
    parser.add_argument("library")
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--database")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--expected", metavar="FILE.npz", help="data, the logits for it, and the rounding")
    args = parser.parse_args(argv)
    try:
        expected, rounding = None, 0.0
        if args.expected:
            with np.load(args.expected) as content:
                expected = content["data"], content["logits"]
                rounding = float(content["rounding"]) if "rounding" in content else 0.0
        with _progress_line() as progress:
            settings = args.database, args.trials, expected, progress, args.threads, rounding
            made = compile_onnx(args.onnx, args.library, *settings)
    except (ValueError, OSError, ImportError) as error:
        elsewhere = "\nor name the Python that has it: --tvm-python PATH" if isinstance(error, ImportError) else ""
        print(f"error: {error}{elsewhere}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(made._asdict()))
    return 0


@contextlib.contextmanager
def _progress_line() -> Iterator[Callable[[str], None]]:
    """One line on standard error that changes in a terminal; elsewhere a line every ten seconds."""
    terminal, last, text = sys.stderr.isatty(), -math.inf, ""

    def show(line: str) -> None:
        nonlocal last, text
        text = line
        if terminal:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last >= 10:
            print(line, file=sys.stderr, flush=True)
            last, text = time.monotonic(), ""

    try:
        yield show
    finally:
        if text:
            print("" if terminal else text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The folder of this file, whose modules are not meant for absolute imports.
    del sys.path[0]
    sys.exit(main())
