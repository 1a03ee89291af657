"""/v1: for our own agents, the command line, and programs. Health and metrics lie beside it."""
