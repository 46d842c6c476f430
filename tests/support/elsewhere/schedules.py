"""A schedule with restarts."""


def sawtooth(span, final, teeth: int = 2):
    """From 1 to `final`, `teeth` times."""
    return lambda number: 1 - (1 - final) * (span.progress(number) * teeth % 1)
