"""Measurements of speed and size, and the variants and libraries that networks are compared with."""
