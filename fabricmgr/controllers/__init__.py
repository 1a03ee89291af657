"""Loops that bring observed to desired. One process across all managers of a database runs them: the one that leads."""
