"""Runs one suite of DMTF's, in the environment that `venv` makes: `python -m tests.conformance.suites SUITE < job.json > result.json`.

Each tool runs by its own entry point. What they found is taken from their own objects when they begin to write their report, since the
reports are made for people. Four habits of theirs are changed from outside, each where it says so.

This module knows the standard library, `verdict` and DMTF's tools only: nothing else is installed where it runs."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.conformance.verdict import FAIL, NOT_TESTED, PASS, WARN, Result

# A tool keeps a request that died on the way as this status, and then takes it for a success.
DIED = 600
# Nobody listens there: deliveries fail, which must disturb nothing. The tool's own is an address in somebody's home network.
DESTINATION = "https://127.0.0.1:9/events"
USE_CASES = ("AccountManagement", "QueryParameters", "ManagerEthernetInterfaces")  # the others switch power


@dataclass(frozen=True)
class Job:
    """url: of the service, without a slash at its end. authorities: file of the CA certificates. schemas: folder of all CSDL files."""

    url: str
    user: str
    password: str
    authorities: str
    schemas: str
    profile: str
    out: str


# --- the tools' objects ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def captured(module: Any, name: str) -> Iterator[list[Any]]:
    """Keeps what the first argument was when `module.name` was called."""
    inner, kept = getattr(module, name), []

    def outer(first: Any, *rest: Any, **named: Any) -> Any:
        kept.append(first)
        return inner(first, *rest, **named)

    setattr(module, name, outer)
    try:
        yield kept
    finally:
        setattr(module, name, inner)


def only(kept: list[Any]) -> Any:
    if not kept:
        raise RuntimeError("the tool ended before it had a result")
    return kept[-1]


def command(main: Callable[[], object], *arguments: str) -> None:
    """As from a command line; its exit code says less than its results."""
    sys.argv = ["tool", *arguments]
    with contextlib.suppress(SystemExit):
        main()


# --- protocol and sse -----------------------------------------------------------------------------------------------------


def tamed() -> Any:
    """The protocol validator's module of requests, after three changes: no multicast, events to ourselves, and the randomness of a token
    doubted at one in a million, since at the tool's one in a hundred a perfect token fails now and then."""
    helpers: Any = import_module("redfish_protocol_validator.utils")
    system = import_module("redfish_protocol_validator.system_under_test").SystemUnderTest
    helpers.discover_ssdp = lambda *_, **__: {}
    helpers.random_sequence = lambda token: _random(helpers, token)
    posting = system.post

    def post(self: Any, uri: str, json: Any = None, **more: Any) -> Any:
        body = {**json, "Destination": DESTINATION} if isinstance(json, dict) and "Destination" in json else json
        return posting(self, uri, json=body, **more)

    system.post = post
    return helpers


def _random(helpers: Any, token: str) -> bool | None:
    bits = helpers.hex_to_binary_str(token)
    return None if bits is None else all(test(bits) > 1e-6 for test in (helpers.monobit_frequency, helpers.runs))


def protocol(job: Job, result: Result) -> None:
    """What DSP0266 asks of HTTP."""
    tamed()
    console = import_module("redfish_protocol_validator.console_scripts")
    with captured(import_module("redfish_protocol_validator.report"), "json_results") as kept:
        where = ("--report-dir", f"{job.out}/protocol", "--ca-bundle", job.authorities)
        command(console.main, "-r", job.url, "-u", job.user, "-p", job.password, *where)
    _assertions(only(kept), result)


def _assertions(system: Any, result: Result) -> None:
    for assertion, checks in system.results.items():
        for check in checks:
            state = FAIL if check["status"] == DIED else check["result"].name
            result.add(state, assertion.name, f"{check['method']} {check['status']} {check['uri']}", check["msg"])
    result.notes["assertions"] = len(system.results)


def sse(job: Job, result: Result) -> None:
    """The protocol validator's tests of the event stream. It leaves them out itself, since a silent stream would hang it."""
    helpers = tamed()
    made = import_module("redfish_protocol_validator.system_under_test").SystemUnderTest
    system = made(job.url, job.user, job.password, verify=job.authorities)
    system.login()
    service = _page(helpers, system, "EventService")
    stream, subscriptions = service.get("ServerSentEventUri"), service.get("Subscriptions", {}).get("@odata.id")
    if not stream or not subscriptions:
        result.add(FAIL, "ServerSentEventUri", "EventService", "there is no stream, or no collection of subscriptions")
        return
    system.set_nav_prop_uri("Subscriptions", subscriptions)
    system.set_server_sent_event_uri(stream)
    with _something_to_read(system, service):
        _read_stream(helpers, system, stream)
    system.logout()
    _assertions(system, result)


def _page(helpers: Any, system: Any, name: str) -> dict[str, Any]:
    root = helpers.get_response_json(system.get("/redfish/v1/"))
    uri = root.get(name, {}).get("@odata.id")
    return dict(helpers.get_response_json(system.get(uri))) if uri else {}


def _read_stream(helpers: Any, system: Any, stream: str) -> None:
    streaming = import_module("redfish_protocol_validator.constants").RequestType.STREAMING
    response, destination = helpers.get_sse_stream(system)
    if destination:
        system.set_event_dest_uri(destination)
    if response is not None:
        system.add_response(stream, response, request_type=streaming)
    import_module("redfish_protocol_validator.service_details").test_server_sent_events(system)
    import_module("redfish_protocol_validator.security_details").test_session_termination_side_effects(system)


@contextlib.contextmanager
def _something_to_read(system: Any, service: Mapping[str, Any]) -> Iterator[None]:
    target = service.get("Actions", {}).get("#EventService.SubmitTestEvent", {}).get("target")
    done = threading.Event()

    def submit() -> None:
        while target and not done.wait(1):
            system.post(target, json={"MessageId": "ResourceEvent.1.4.TestMessage"})

    feeding = threading.Thread(target=submit, daemon=True)
    feeding.start()
    try:
        yield
    finally:
        done.set()
        feeding.join(30)


# --- the tree -------------------------------------------------------------------------------------------------------------


def walking(job: Job, **more: object) -> dict[str, object]:
    """Arguments of both validators that walk the tree."""
    proxies = dict.fromkeys(("ext_http_proxy", "ext_https_proxy", "serv_http_proxy", "serv_https_proxy"))
    who = {"rhost": job.url, "user": job.user, "password": job.password, "authtype": "Session"}
    # Log entries are all of one kind: twenty of them tell as much as thousands.
    limits = {"collectionlimit": ["LogEntry", "20"], "nooemcheck": False, "timeout": 60}
    return {**who, **limits, **proxies, "payload": None, "mockup": None, "debugging": False, **more}


def service(job: Job, result: Result) -> None:
    """Every page that can be reached, against its schema."""
    console = import_module("redfish_service_validator.console_scripts")
    with captured(import_module("redfish_service_validator.report"), "html_report") as kept:
        console.run_validator(walking(job, schema_directory=job.schemas, skipschema=True, logdir=f"{job.out}/service"))
    pages = only(kept)._resources
    for uri, page in pages.items():
        for prop, check in page["Results"].items():
            unknown = check["Result"] == WARN and "Unable to locate the schema definition" in check["Message"]
            # The tool warns of a type it does not know, and looks at nothing below: any error could hide there.
            result.notes["unknown-types"] = result.notes.get("unknown-types", 0) + unknown
            _add(result, FAIL if unknown else check["Result"], uri + prop, check["Message"])
    result.notes["pages"] = sum(bool(page["Validated"]) for page in pages.values())


def interop(job: Job, result: Result) -> None:
    """Whether all is there that our profile says must be."""
    console = import_module("redfish_interop_validator.console_scripts")
    with captured(import_module("redfish_interop_validator.report"), "html_report") as kept:
        console.run_validator(walking(job, profile=job.profile, logdir=f"{job.out}/interop"))
    system = only(kept)
    checked = [(uri, page["Results"]) for uri, page in system._resources.items()]
    whole = [value for name, value in vars(system).items() if name.startswith("_service_") and isinstance(value, dict)]
    for where, checks in [*checked, *(("", each.get("Results", {})) for each in whole)]:
        for prop, check in checks.items():
            _add(result, getattr(check["Result"], "name", check["Result"]), f"{where} {prop}", check["Message"])
    told = {PASS: system.pass_count, WARN: system.warn_count, FAIL: system.fail_count, NOT_TESTED: system.skip_count}
    for state, count in told.items():
        if count != result.count(state):
            raise RuntimeError(f"the tool counts {count} of {state}, and shows {result.count(state)}")


def usecase(job: Job, result: Result) -> None:
    """What people do with a service: accounts, queries, a manager's interfaces."""
    console = import_module("redfish_use_case_checkers.console_scripts")
    with captured(import_module("redfish_use_case_checkers.report"), "html_report") as kept:
        who = ("-r", job.url, "-u", job.user, "-p", job.password)
        command(console.main, *who, "--report-dir", f"{job.out}/usecase", "--test-list", *USE_CASES)
    for category in only(kept)._results:
        for test in category["Tests"]:
            for check in test["Results"]:
                state = NOT_TESTED if check["Result"] == "SKIP" else check["Result"]
                result.add(state, f"{category['Category']}: {test['Name']}", check["Operation"], check["Message"])


def _add(result: Result, state: str, where: str, message: str) -> None:
    result.add(NOT_TESTED if state in ("SKIP", NOT_TESTED) else state, message.partition(":")[0], where, message)


SUITES: dict[str, Callable[[Job, Result], None]] = {
    "protocol": protocol,
    "sse": sse,
    "service": service,
    "usecase": usecase,
    "interop": interop,
}


def main() -> int:
    """What breaks a suite off ends this process: whoever started it says so in the suite's result."""
    job, name = Job(**json.load(sys.stdin)), sys.argv[1]
    result, began = Result(name), time.monotonic()
    SUITES[name](job, result)
    result.seconds = time.monotonic() - began
    (Path(job.out) / f"{name}.json").write_text(json.dumps(asdict(result), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
