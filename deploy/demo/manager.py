"""The manager of the demo, and what an administrator says to it with the command line."""

import json
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.demo.place import Place
from deploy.demo.processes import Program, Stopped, run


@dataclass
class DemoManager:
    """`fabricmgr serve` with an embedded Postgres. host: where it listens."""

    place: Place
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def password(self) -> str:
        """The file the first start wrote the administrator's password to."""
        return str(self.place.manager_data / "initial-admin-password")

    @property
    def authority(self) -> Path:
        """The certificate authority it made for itself."""
        return self.place.manager_data / "ca.pem"

    @cached_property
    def program(self) -> Program:
        settings = ["--data-dir", str(self.place.manager_data), "--listen", f"{self.host}:{self.port}", "--log-format", "text"]
        return Program("manager", [str(self.place.program), "serve", *settings], self.place.keep / "manager.log")

    def refuse_taken_port(self) -> None:
        """Stopped when another program listens there."""
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((self.host, self.port))
            except OSError as error:
                reason = f"the manager can't listen on {self.host}:{self.port}: {error.strerror}"
                raise Stopped(f"{reason}. Take another port: make run PORT=9443") from None

    def waits_for(self) -> str:
        """What stands between now and the first request it can answer; empty when it is ready."""
        if not self.authority.exists():
            return "its database and its certificate authority are made"
        # A handler that names no proxy: one in the environment is not for this machine's own addresses.
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(self.authority)))
        )
        try:
            with opener.open(f"{self.url}/readyz", timeout=2):
                return ""
        except urllib.error.HTTPError as refused:
            return str(json.load(refused)["waiting_for"])
        except (OSError, ssl.SSLError):
            return "it listens"

    def tell(self, *words: str) -> str:
        """One command of the administrator. Stopped with its error."""
        return run(str(self.place.program), *words, environment={"FABRICMGR_LOGIN": str(self.place.login)})

    def ask(self, *words: str) -> Any:
        return json.loads(self.tell(*words, "-o", "json"))

    def log_in(self) -> None:
        self.tell("login", self.url, "--ca", str(self.authority), "--password-file", self.password)

    def names(self, *words: str) -> set[str]:
        """The names in a list the manager gives."""
        answer = self.ask(*words)
        rows = answer["items"] if isinstance(answer, dict) else answer
        return {row["name"] for row in rows}

    def make(self, kind: str, name: str, *how: str) -> bool:
        """Add it unless an earlier start did. Whether it is new."""
        if name in self.names(kind, "list"):
            return False
        self.tell(kind, "add", name, *how)
        return True

    def enrolment_token(self, node: str) -> str:
        """A token for a node that is new, or whose identity was lost."""
        if node in self.names("node", "list"):
            return self.token_of(self.ask("node", "token", node))
        return self.token_of(self.ask("node", "add", node))

    @staticmethod
    def token_of(answer: Any) -> str:
        if not isinstance(answer, dict) or "token" not in answer:
            raise Stopped(f"the manager gave no token: {answer}")
        return str(answer["token"])
