"""Whose a service account's token is: the API server says (authentication.k8s.io/v1 TokenReview)."""

from dataclasses import dataclass

from fabricmgr.kube.client import Client
from fabricmgr.kube.objects import Kind, Part, View

NODE = "authentication.kubernetes.io/node-name"  # of a token that is bound to a pod; since Kubernetes 1.30


class ReviewUser(Part, frozen=True):
    username: str = ""
    extra: dict[str, list[str]] | None = None


class ReviewStatus(Part, frozen=True):
    authenticated: bool = False
    error: str = ""
    audiences: list[str] | None = None
    user: ReviewUser = ReviewUser()


class TokenReview(View, frozen=True):
    status: ReviewStatus = ReviewStatus()


TOKEN_REVIEWS = Kind("TokenReview", "authentication.k8s.io", "v1", "tokenreviews", False, TokenReview)


@dataclass(frozen=True)
class Reviewed:
    """account: such as system:serviceaccount:NAMESPACE:NAME. node: where the pod runs that the token is bound to, empty where the server
    doesn't say. refused: why it is no token for this audience; empty where it is one."""

    account: str
    node: str
    refused: str = ""


async def review(client: Client, token: str, audience: str) -> Reviewed:
    """Raises the Api... errors."""
    status = (await client.create(TOKEN_REVIEWS, "", {"spec": {"token": token, "audiences": [audience]}})).status
    if not status.authenticated:
        return Reviewed("", "", status.error or "the API server does not know it")
    if audience not in (status.audiences or ()):
        return Reviewed("", "", f"it is not for {audience}")
    nodes = (status.user.extra or {}).get(NODE, [])
    return Reviewed(status.user.username, nodes[0] if nodes else "")
