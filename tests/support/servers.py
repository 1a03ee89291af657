"""Small servers in a namespace of a test's."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.netns import Namespace

TCP = """
import socket, sys
with socket.create_server(("0.0.0.0", int(sys.argv[1]))) as listening:
    print("up", flush=True)
    while True:
        caller, source = listening.accept()
        caller.sendall(f"{sys.argv[2]} {source[0]}\\n".encode())
        caller.close()
"""
CALL = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as there:
    print(there.makefile().read().strip())
"""


@contextmanager
def tcp_server(where: Namespace, port: int, sentence: str) -> Iterator[None]:
    """Says a sentence to everybody who connects, and behind it the address that the caller seems to have."""
    with subprocess.Popen(where.command(sys.executable, "-c", TCP, str(port), sentence), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            yield
        finally:
            process.kill()


def ask_tcp(where: Namespace, address: str, port: int) -> str:
    """What the server there says; empty when nobody answers within two seconds."""
    return where.run(sys.executable, "-c", CALL, address, str(port), check=False).stdout.strip()
