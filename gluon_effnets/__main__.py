"""The table of commands: python -m gluon_effnets list | info | table | train | validate | predict | export ..."""

from __future__ import annotations

import functools
import sys

from .commands import (
    benchmark,
    card,
    claims,
    classes,
    compare_int8,
    convert,
    doctor,
    experiment,
    export,
    info,
    listing,
    native,
    paper_table,
    plot,
    predict,
    recipes,
    report,
    search,
    train,
    tvm,
    validate,
    weights,
)
from .commands.command import run_command

COMMANDS = (
    listing.COMMAND,
    info.COMMAND,
    paper_table.COMMAND,
    claims.COMMAND,
    classes.COMMAND,
    weights.COMMAND,
    recipes.COMMAND,
    train.COMMAND,
    experiment.COMMAND,
    report.COMMAND,
    search.COMMANDS,
    validate.COMMAND,
    predict.COMMAND,
    compare_int8.COMMAND,
    convert.COMMAND,
    export.COMMAND,
    card.COMMAND,
    tvm.COMMAND,
    native.COMMAND,
    doctor.COMMAND,
    plot.COMMANDS,
    benchmark.COMMANDS,
)

main = functools.partial(run_command, COMMANDS)

if __name__ == "__main__":
    sys.exit(main())
