"""Becomes a Postgres program: never as root, and never longer than its parent lives.

Run as a file in a fresh interpreter (`python -I -S pgchild.py PARENT MODE PROGRAM ARGS...`), because what happens here must happen between
fork and exec, and Python code in a fork of a process with threads may hang. Standard library only.

PARENT is the process id the program shall not outlive. MODE is `same` (stay who you are), `namespace` (root goes on as `nobody` of a user
namespace of its own: files it makes stay root's) or `UID:GID`.
"""

import ctypes
import os
import signal
import sys

NAMESPACE_REFUSED = 96  # exit status: this machine forbids user namespaces
USER_REFUSED = 97  # exit status: the named uid could not be taken
PROGRAM_REFUSED = 98  # exit status: the program could not be run by that user

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITIES_VERSION = 0x20080522
NOBODY = 65534


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_namespace() -> None:
    """Leave root for `nobody` of a new user namespace (user_namespaces(7)); raises OSError where that is forbidden.

    A process may map its own id by itself, so no helper and no entry in /etc/subuid is needed.
    """
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc().unshare(_CLONE_NEWUSER))
    for name, text in (("uid_map", f"{NOBODY} {uid} 1"), ("setgroups", "deny"), ("gid_map", f"{NOBODY} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 10 ms at each start
            file.write(text)


def become(uid: int, gid: int, *, search: bool) -> None:
    """Leave root for this user. search: keep the capability to read and pass through any folder (capabilities(7)), also over exec."""
    if search:
        _check(_libc().prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if search:
        kept = 1 << _CAP_DAC_READ_SEARCH
        header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
        _check(_libc().capset(header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)))
        _check(_libc().prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH, 0, 0))


def end_with_parent(parent: int) -> None:
    """Ask for SIGINT, Postgres's fast shutdown, when the parent dies. Comes last: a change of user clears the wish (prctl(2))."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0))
    if os.getppid() != parent:  # it died before the wish stood
        sys.exit(0)


def change_user(mode: str) -> int:
    """Take the user that `mode` names; gives 0, or the exit status that says what was refused."""
    if mode == "same":
        return 0
    try:
        if mode == "namespace":
            enter_namespace()
        else:
            uid, gid, *more = mode.split(":")
            become(int(uid), int(gid), search=more == ["search"])
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return NAMESPACE_REFUSED if mode == "namespace" else USER_REFUSED
    return 0


def main(arguments: list[str]) -> int:
    parent, mode, *command = arguments
    if refused := change_user(mode):
        return refused
    end_with_parent(int(parent))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a supervisor that blocks signals must not hand that on
    os.umask(0o077)
    try:
        os.execv(command[0], command)  # noqa: S606 - a list, no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return PROGRAM_REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
