"""What is wrong with an installation or a machine, found by trying, and what cures it."""
