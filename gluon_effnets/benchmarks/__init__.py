"""Measurements of speed and size, and the forms and libraries that networks are compared with."""
