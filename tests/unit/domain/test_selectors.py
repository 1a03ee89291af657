"""Who may have addresses of which pool, and in which order pools are asked."""

import pytest

from fabricmgr.domain.errors import Invalid
from fabricmgr.domain.kube import KubeNamespace
from fabricmgr.domain.names import pool_name
from fabricmgr.domain.pool import PoolDraft, Purpose
from fabricmgr.domain.selectors import Candidate, Kind, Selectors, Subject, decide, families_of, found_namespaces, parse, to_json

SHOP = Subject(Kind.POD, "shop", {"team": "a"}, {"rack": "r1"})


def why(subject: Subject, *pools: Candidate) -> dict[str, str]:
    return {reason.pool: reason.why for reason in decide(subject, pools).reasons}


def test_what_is_written_is_read_again() -> None:
    text: dict[str, object] = {
        "namespaces": ["blog", "shop"],
        "namespace_labels": {"team": ["a", "b"], "kubernetes.io/metadata.name": []},
        "node_labels": {"rack": ["r1"]},
    }

    assert to_json(parse(text)) == text
    assert to_json(parse({})) == {}
    assert not parse({})
    assert parse({"namespaces": ["b", "a", "b"]}) == parse({"namespaces": ["a", "b"]})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"namespace": ["shop"]}, "selectors"),
        ({"namespaces": "shop"}, "selectors.namespaces"),
        ({"namespaces": ["Shop"]}, "selectors.namespaces"),
        ({"namespaces": [7]}, "selectors.namespaces"),
        ({"node_labels": ["rack"]}, "selectors.node_labels"),
        ({"node_labels": {"a b": ["c"]}}, "selectors.node_labels"),
        ({"node_labels": {"rack": "r1"}}, "selectors.node_labels[rack]"),
        ({"services": {"app": ["no spaces"]}}, "selectors.services[app]"),
    ],
)
def test_what_cannot_be_a_selector_is_refused_by_its_field(given: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(given)

    assert refused.value.field == field


@pytest.mark.parametrize(
    ("purpose", "selectors", "priority", "field"),
    [
        (Purpose.LOOPBACK, Selectors(("shop",)), 0, "selectors"),
        (Purpose.POD, Selectors(services={"app": ("web",)}), 0, "selectors.services"),
        (Purpose.SERVICE, Selectors(node_labels={"rack": ("r1",)}), 0, "selectors.node_labels"),
        (Purpose.POD, Selectors(), 10**7, "priority"),
    ],
)
def test_a_pool_has_only_selectors_of_its_purpose(purpose: Purpose, selectors: Selectors, priority: int, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        PoolDraft(pool_name("pods"), purpose=purpose, selectors=selectors, priority=priority)

    assert refused.value.field == field


def test_matching_pools_come_first_by_priority_and_name_and_those_for_whoever_come_last() -> None:
    pools = [
        Candidate("whoever", place=0, priority=99),
        Candidate("b", Selectors(("shop",))),
        Candidate("a", Selectors(namespace_labels={"team": ("a", "b")})),
        Candidate("high", Selectors(("shop", "blog"), node_labels={"rack": ()}), priority=5),
        Candidate("other", Selectors(("blog",)), priority=9),
    ]

    decision = decide(SHOP, pools)

    assert decision.order == ("high", "a", "b", "whoever")
    assert [(each.pool, each.taken, each.place) for each in decision.reasons] == [
        ("high", True, 1),
        ("a", True, 2),
        ("b", True, 3),
        ("whoever", True, 4),
        ("other", False, 0),
    ]


def test_every_pool_that_is_not_taken_says_what_it_wanted_and_what_there_is() -> None:
    reasons = why(
        SHOP,
        Candidate("ns", Selectors(("blog", "wiki"))),
        Candidate("label", Selectors(namespace_labels={"team": ("b",)})),
        Candidate("absent", Selectors(namespace_labels={"stage": ("prod",)})),
        Candidate("rack", Selectors(node_labels={"rack": ("r2",)})),
        Candidate("named", auto_assign=False),
        Candidate("empty", families=()),
        Candidate("draining", draining=True),
        Candidate("taken"),
    )

    assert reasons == {
        "ns": "its selectors want namespace blog or wiki; this is shop",
        "label": "its selectors want label team=b; namespace shop has team=a",
        "absent": "its selectors want label stage=prod; namespace shop has none such",
        "rack": "its selectors want label rack=r2; its node has rack=r1",
        "named": "it is taken only where the annotation fabricmgr.io/pool names it (auto_assign is off)",
        "empty": "it has no prefix",
        "draining": "it is draining",
        "taken": "it has no selectors: whoever",
    }


def test_a_pool_named_by_an_annotation_comes_first_if_its_selectors_match() -> None:
    named = Subject(Kind.POD, "shop", asked_pool="gold", asked_by="pod")
    pools = [Candidate("gold", auto_assign=False), Candidate("plain"), Candidate("shop", Selectors(("shop",)))]

    assert decide(named, pools).order == ("gold", "shop", "plain")
    assert why(named, *pools)["gold"] == "the annotation fabricmgr.io/pool of the pod names it"


def test_a_named_pool_that_does_not_match_or_is_not_there_leaves_no_pool_at_all() -> None:
    named = Subject(Kind.SERVICE, "shop", asked_pool="blog", asked_by="Service")
    pools = [Candidate("blog", Selectors(("blog",))), Candidate("plain")]

    mismatch, absent = decide(named, pools), decide(named, pools[1:])

    assert mismatch.order == absent.order == ()
    assert mismatch.refused == (
        "the annotation fabricmgr.io/pool of the Service names pool 'blog': its selectors want namespace blog; this is shop"
    )
    assert (
        absent.refused == "the annotation fabricmgr.io/pool of the Service names pool 'blog', and there is none of that name to take from"
    )
    assert [each.taken for each in mismatch.reasons] == [False, False]


def test_families_that_a_named_pool_lacks_come_from_the_others() -> None:
    named = Subject(Kind.POD, "shop", asked_pool="four", asked_by="pod")
    pools = [Candidate("four", families=(4,)), Candidate("both", families=(4, 6))]

    by_family = families_of(decide(named, pools), {each.name: each.families for each in pools}, "four")

    assert by_family == {4: ("four",), 6: ("both",)}


def test_a_pod_that_nobody_knows_matches_no_namespace_but_its_node() -> None:
    unknown = Subject(Kind.POD, node_labels={"rack": "r1"})
    pools = [Candidate("shop", Selectors(("shop",))), Candidate("rack", Selectors(node_labels={"rack": ("r1",)})), Candidate("plain")]

    assert decide(unknown, pools).order == ("rack", "plain")
    assert why(unknown, *pools)["shop"] == "its selectors name namespaces, and the API server does not show who this pod is"


def test_a_node_gets_blocks_by_its_labels_and_never_of_a_pool_that_selects_namespaces() -> None:
    node = Subject(Kind.NODE, node_labels={"rack": "r1"})
    pools = [
        Candidate("shop", Selectors(("shop",), node_labels={"rack": ("r1",)})),
        Candidate("r1", Selectors(node_labels={"rack": ("r1",)})),
        Candidate("r2", Selectors(node_labels={"rack": ("r2",)})),
        Candidate("named", auto_assign=False),
        Candidate("plain"),
    ]

    assert decide(node, pools).order == ("r1", "plain")


def test_a_service_is_chosen_by_its_own_labels() -> None:
    service = Subject(Kind.SERVICE, "shop", labels={"tier": "web"})
    pools = [Candidate("db", Selectors(services={"tier": ("db",)})), Candidate("web", Selectors(services={"tier": ("web",)}))]

    assert decide(service, pools).order == ("web",)
    assert why(service, *pools)["db"] == "its selectors want label tier=db; this Service has tier=web"
    assert why(service, *pools)["web"] == "its selectors match (label tier=web), priority 0"


def test_the_manager_decides_for_namespaces_that_selectors_labels_or_annotations_name() -> None:
    namespaces = [
        KubeNamespace("plain", "1"),
        KubeNamespace("labelled", "2", {"team": "a"}),
        KubeNamespace("annotated", "3", annotations={"fabricmgr.io/pool": "gold"}),
        KubeNamespace("allowed", "4", {"fabricmgr.io/pod-pools": "allowed"}),
        KubeNamespace("forbidden", "5", {"fabricmgr.io/pod-pools": "no"}),
        KubeNamespace("shop", "6"),
        KubeNamespace("blog", "7"),
    ]
    pools = [
        Candidate("a", Selectors(namespace_labels={"team": ("a",)})),
        Candidate("s", Selectors(("shop", "soon"))),
        Candidate("n", Selectors(node_labels={"rack": ("r1",)})),
        Candidate("both", Selectors(("blog",), namespace_labels={"team": ("b",)})),
    ]

    assert found_namespaces(namespaces, pools) == ("allowed", "annotated", "labelled", "shop", "soon")
    assert found_namespaces(namespaces, []) == ("allowed", "annotated")
