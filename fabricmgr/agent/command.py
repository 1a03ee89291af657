"""`fabricmgr agent`: run, join, status, install, uninstall. Plain argparse, since the daemon stays small."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fabricmgr.agent import conflist, install, keys, logs, status
from fabricmgr.agent.identity import About, Identity
from fabricmgr.domain.errors import FabricError, NotEnrolled, SettingRefused
from fabricmgr.problems import sentence
from fabricmgr.settings import AgentSettings, load
from fabricmgr.wire import Enrolled

REFUSED, USAGE, FAULTS, NOT_RUNNING = 1, 2, 1, 3
_COMMANDS = ("run", "join", "enrol", "status", "install", "uninstall")


def main(arguments: Sequence[str]) -> int:
    """Run one command. Gives back its exit code: 0 well, 1 refused or faults found, 2 wrong usage, 3 no agent runs."""
    given = list(arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help")):
        given.insert(0, "run")
    parsed, rest = _parser().parse_known_args(given)
    action: Callable[[argparse.Namespace, AgentSettings], int] = parsed.action
    try:
        return action(parsed, load(AgentSettings, rest, os.environ))
    except FabricError as error:
        return _fail(sentence(error))
    except OSError as error:
        return _fail(f"{error.filename or 'the system'}: {error.strerror or error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fabricmgr agent",
        description="The agent of a node. Without a command it runs.",
        epilog="Every setting is a flag too (--manager-url, --data-dir, --run-dir, ...); docs/settings.md lists them.",
    )
    commands = parser.add_subparsers(required=True, metavar="|".join(_COMMANDS))
    _command(commands, "run", _run, "serve this node's container runtime (the default)")
    for name in ("join", "enrol"):
        join = _command(commands, name, _join, "become a node of a manager, with a token of `fabricmgr node add`")
        join.add_argument("--manager", required=True, help="URL of the manager, such as https://192.0.2.10:8443")
        which = join.add_mutually_exclusive_group(required=True)
        which.add_argument("--token", help="the token; others on this machine may see it in the list of processes")
        which.add_argument("--token-file", type=Path, help="file that holds the token; - for standard input")
        which.add_argument("--service-account-token-file", type=Path, help="a pod's token, of audience fabricmgr; with --cluster")
        join.add_argument("--cluster", default="", help="whose API server gave that token")
        join.add_argument("--authority-file", type=Path, help="the manager's CA, which such a token does not name")
        join.add_argument("--if-needed", action="store_true", help="do nothing where this is a node of that manager already")
    said = _command(commands, "status", _status, "show the running agent; fails when something keeps pods from working")
    said.add_argument("-o", "--output", choices=("text", "json"), default="text")
    put = _command(commands, "install", _install, "put the plugin where the runtime looks for it")
    put.add_argument("--cni-bin-dir", type=Path, default=install.BIN_DIR, help="default %(default)s")
    put.add_argument("--cni-conf-dir", type=Path, default=install.CONF_DIR, help="where the agent writes the network list (%(default)s)")
    put.add_argument("--network", required=True, help="the network whose list is written")
    put.add_argument("--shim", choices=("auto", "static", "python"), default="auto", help="auto: static where it was built")
    _command(commands, "uninstall", _uninstall, "take away plugin and network list")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    action: Callable[[argparse.Namespace, AgentSettings], int],
    about: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(action=action)
    return parser


def _run(_: argparse.Namespace, settings: AgentSettings) -> int:
    from fabricmgr.agent import daemon

    logs.start(settings.log_format, settings.log_level)
    asyncio.run(daemon.serve(settings))
    return 0


def _join(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    url = parsed.manager.rstrip("/")
    if parsed.if_needed and (before := _current(settings.data_dir, url)) is not None:
        _say(f"This is node {before.node} of cluster {before.cluster} already.")
        return 0
    token = _token(parsed)
    key = keys.make(token)
    identity = Identity.store(settings.data_dir, url, asyncio.run(_enrol(parsed, url, token, key)), key)
    _say(f"This is node {identity.about.node} of cluster {identity.about.cluster} now.\nNext: fabricmgr agent install, fabricmgr agent")
    return 0


async def _enrol(parsed: argparse.Namespace, url: str, token: str, key: keys.NewKey) -> Enrolled:
    from fabricmgr.agent import manager

    now = datetime.now(UTC)
    if parsed.service_account_token_file is None:
        return await manager.enrol(url, token, key, now)
    for flag, given in (("cluster", parsed.cluster), ("authority_file", parsed.authority_file)):
        if not given:
            raise SettingRefused(flag, "", "given together with service_account_token_file")
    return await manager.enrol_as_pod(url, parsed.cluster, token, parsed.authority_file.read_text(), key, now)


def _current(data_dir: Path, url: str) -> About | None:
    """Who this is to that manager, as long as the certificate counts: None where it must enrol."""
    try:
        identity = Identity.load(data_dir)
        ends = identity.ends_at()
    except (NotEnrolled, OSError, ValueError):
        return None
    return identity.about if identity.about.manager == url and datetime.now(UTC) < ends else None


def _token(parsed: argparse.Namespace) -> str:
    file = parsed.token_file or parsed.service_account_token_file
    if file is None:
        return str(parsed.token).strip()
    text = sys.stdin.read() if str(file) == "-" else file.read_text()
    return str(text).strip()


def _status(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    try:
        said = status.ask(settings.run_dir)
    except (OSError, msgspec.MsgspecError) as error:
        return _fail(f"{_away(settings)} ({settings.run_dir / status.SOCKET}: {error})", NOT_RUNNING)
    _say(msgspec.json.format(msgspec.json.encode(said)).decode() if parsed.output == "json" else text(said))
    return FAULTS if said.faults else 0


def _away(settings: AgentSettings) -> str:
    try:
        node = Identity.load(settings.data_dir).about.node
    except NotEnrolled as error:
        return f"no agent runs here, and {sentence(error)}"
    return f"the agent of node {node} does not run"


def _install(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    static = {"auto": None, "static": True, "python": False}[parsed.shim]
    target, installed = install.install(settings.data_dir, parsed.cni_bin_dir, parsed.cni_conf_dir, parsed.network, static)
    _say(f"{target} is in place; the agent writes {installed.path} when it can serve network {installed.network}.")
    return 0


def _uninstall(_: argparse.Namespace, settings: AgentSettings) -> int:
    nothing = conflist.remembered(settings.data_dir) is None
    removed = install.uninstall(settings.data_dir)
    _say("nothing was installed" if nothing else "\n".join(f"removed {path}" for path in removed) or "it was gone already")
    return 0


def text(said: status.Status) -> str:
    """As a person reads it."""
    heard = "never" if said.manager_heard_seconds is None else f"{said.manager_heard_seconds:.1f} s ago"
    lines = [
        f"node {said.node} of cluster {said.cluster}, fabricmgr {said.version}, {said.rss_kib / 1024:.0f} MiB resident",
        f"manager: {said.manager_path}; heard {heard}",
        f"attachments: {said.attachments}; unreported: {said.unreported} (oldest {said.trail_ms} ms)",
    ]
    for network in said.networks:
        free = ", ".join(f"{count} free IPv{family}" for family, count in network.free.items())
        lines.append(f"network {network.name}: bridge {network.bridge or 'not made'}, {free}, {network.attachments} attachments")
    lines += [f"block {b.prefix} of {b.pool}: {b.state}, {b.held} held, {b.free} free" for b in said.blocks]
    lines += [f"FAULT: {fault}" for fault in said.faults] + [f"risk: {risk}" for risk in said.risks]
    return "\n".join(lines)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _fail(line: str, code: int = REFUSED) -> int:
    sys.stderr.write(f"fabricmgr agent: {line}\n")
    return code
