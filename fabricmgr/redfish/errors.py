"""Error bodies: always the extended form (DSP0266, 8.6)."""

from typing import Any

from fabricmgr import dmtf
from fabricmgr.domain.errors import FabricError
from fabricmgr.problems import BUG, Kind, problem_of

Json = dict[str, Any]

_RESOLUTION = {
    Kind.CALLER: "Correct the request and send it again.",
    Kind.STATE: "Change what stands in the way, then send the request again.",
    Kind.TRANSIENT: "Send the same request again later.",
    Kind.BUG: "Send the request's id to whoever runs this service.",
}
_ABOUT_A_PROPERTY = ("Property", "CreateFailedMissing")


def rendered(error: FabricError | None, uri: str) -> tuple[int, Json]:
    """Status and body for an error met at `uri`; None stands for a bug of ours, which shows nothing of itself."""
    problem = BUG if error is None else problem_of(error)
    fields = {} if error is None else vars(error)
    text = problem.text if error is None else problem.say(error)
    info = message(
        problem.redfish, text, [template.format_map({**fields, "uri": uri}) for template in problem.args], _RESOLUTION[problem.kind]
    )
    related = fields.get("field")
    if related and problem.redfish.startswith(_ABOUT_A_PROPERTY):
        info["RelatedProperties"] = [f"#/{related}"]
    return problem.http, {"error": {"code": info["MessageId"], "message": text, "@Message.ExtendedInfo": [info]}}


def message(name: str, text: str, args: list[str], resolution: str = "None.") -> Json:
    """One message of the Base registry. The wording is ours; id, severity and count of arguments are the registry's."""
    return {
        "@odata.type": dmtf.odata_type("Message"),
        "MessageId": dmtf.message_id("Base", name),
        "Message": text,
        "MessageArgs": args,
        "MessageSeverity": dmtf.message("Base", name).severity,
        "Resolution": resolution,
    }
