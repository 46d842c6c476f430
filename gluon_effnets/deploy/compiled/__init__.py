"""Graphs of MXNet rewritten for the compiled operator of whole networks, after they were loaded."""
