"""Builds everything, once: the supervisor, a web worker, the controllers process."""
