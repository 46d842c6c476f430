"""Thousands of damaged inputs and hundreds of faults, each known by its number: python -m tests.campaign --help."""
