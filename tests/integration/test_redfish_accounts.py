"""Accounts, roles and the privilege map by Redfish."""

import asyncio
from typing import Any

import httpx2
import pytest

from fabricmgr import dmtf
from fabricmgr.redfish.build import tree
from fabricmgr.redfish.resource import Place
from tests.integration.test_redfish import PASSWORD, POOLS, SESSIONS, as_boss, message_of, service

ACCOUNTS = "/redfish/v1/AccountService/Accounts"
ROLES = "/redfish/v1/AccountService/Roles"
MAP = "/redfish/v1/AccountService/PrivilegeMap"
WRONG_LOCKOUTS = (
    ("AccountLockoutThreshold", -1),
    ("AccountLockoutThreshold", 1001),
    ("AccountLockoutDuration", 86401),
    ("AccountLockoutDuration", "1"),
    ("AccountLockoutThreshold", True),
    ("AccountLockoutCounterResetAfter", 3),
)
ADA = {"UserName": "ada", "Password": "a longer secret", "RoleId": "Operator"}


def by(name: str, password: str = PASSWORD) -> Any:
    return httpx2.BasicAuth(name, password)


async def test_an_account_is_made_changed_and_removed(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        made = await client.post(ACCOUNTS, json=ADA)
        again = await client.post(ACCOUNTS, json=ADA)
        came_in = await client.get(POOLS, auth=by("ada", "a longer secret"))
        disabled = await client.patch(f"{ACCOUNTS}/ada", json={"Enabled": False, "RoleId": "ReadOnly"})
        shut_out = await client.get(POOLS, auth=by("ada", "a longer secret"))
        removed = await client.delete(f"{ACCOUNTS}/ada")

        assert (made.status_code, made.headers["location"]) == (201, f"{ACCOUNTS}/ada")
        assert made.json()["Password"] is None
        assert made.json()["Links"]["Role"] == {"@odata.id": f"{ROLES}/Operator"}
        assert "a longer secret" not in made.text
        assert (again.status_code, message_of(again)) == (409, "ResourceAlreadyExists")
        assert came_in.status_code == 200
        assert (disabled.json()["Enabled"], disabled.json()["RoleId"]) == (False, "ReadOnly")
        assert shut_out.status_code == 401
        assert removed.status_code == 204
        assert (await client.get(f"{ACCOUNTS}/ada")).status_code == 404


async def test_the_lockout_is_changed_for_all_managers_and_counts_at_once(database_url: str) -> None:
    uri = "/redfish/v1/AccountService"
    async with service(database_url) as client:
        await as_boss(client)
        before = (await client.get(uri)).json()

        changed = await client.patch(uri, json={"AccountLockoutThreshold": 2, "AccountLockoutDuration": 600})
        wrong = [(await client.get(POOLS, auth=by("eve", "wrong"))).status_code for _ in range(2)]
        locked = await client.get(POOLS, auth=by("eve"))
        shown = (await client.get(f"{ACCOUNTS}/eve")).json()["Locked"]
        stale = await client.patch(uri, json={"AccountLockoutThreshold": 3}, headers={"If-Match": '"1"'})
        off = await client.patch(uri, json={"AccountLockoutThreshold": 0})
        free = [await client.get(POOLS, auth=by("eve", word)) for word in ("wrong", "wrong", PASSWORD)]
        bad = [await client.patch(uri, json={name: value}) for name, value in WRONG_LOCKOUTS]
        denied = await client.patch(uri, json={"AccountLockoutThreshold": 9}, auth=by("op"))

        assert (before["AccountLockoutThreshold"], before["AccountLockoutDuration"]) == (5, 30)
        told = changed.json()
        assert [told[f"AccountLockout{name}"] for name in ("Threshold", "Duration", "CounterResetAfter")] == [2, 600, 600]
        assert (wrong, locked.status_code, shown, stale.status_code) == ([401, 401], 401, True, 412)
        assert (off.json()["AccountLockoutThreshold"], [each.status_code for each in free]) == (0, [401, 401, 200])
        assert (await client.get(f"{ACCOUNTS}/eve")).json()["Locked"] is False
        assert [each.status_code for each in bad] == [400] * len(WRONG_LOCKOUTS)
        assert denied.status_code == 403


@pytest.mark.parametrize(
    ("change", "message", "field"),
    [
        ({"Password": None}, "PropertyValueTypeError", "Password"),
        ({"Password": "short"}, "PropertyValueError", "Password"),
        ({"RoleId": "King"}, "PropertyValueNotInList", "RoleId"),
        ({"UserName": "a/b"}, "PropertyValueError", "UserName"),
        ({"AccountTypes": ["WebUI"]}, "PropertyValueNotInList", "AccountTypes/0"),
        ({"Enabled": "yes"}, "PropertyValueTypeError", "Enabled"),
        ({"Passwort": "x"}, "PropertyUnknown", "Passwort"),
    ],
)
async def test_a_wrong_account_is_refused_by_the_property_that_is_wrong(
    database_url: str, change: dict[str, Any], message: str, field: str
) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(ACCOUNTS, json={**ADA, **change})

        assert (answer.status_code, message_of(answer)) == (400, message)
        assert answer.json()["error"]["@Message.ExtendedInfo"][0]["RelatedProperties"] == [f"#/{field}"]
        assert "short" not in answer.text
        assert (await client.get(f"{ACCOUNTS}/ada")).status_code == 404


async def test_of_four_racing_changes_that_quote_one_etag_one_wins(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        etag = (await client.post(ACCOUNTS, json=ADA)).headers["etag"]

        async def patched(number: int) -> int:
            body = {"Password": f"another secret {number}"}
            return (await client.patch(f"{ACCOUNTS}/ada", json=body, headers={"If-Match": etag})).status_code

        assert sorted(await asyncio.gather(*(patched(number) for number in range(4)))) == [200, 412, 412, 412]


async def test_one_may_change_ones_own_password_and_nothing_else_of_accounts(database_url: str) -> None:
    async with service(database_url) as client:
        eve = by("eve")

        assert (await client.get(f"{ACCOUNTS}/eve", auth=eve)).status_code == 200
        assert (await client.get(f"{ACCOUNTS}/boss", auth=eve)).status_code == 403
        other = await client.patch(f"{ACCOUNTS}/boss", json={"Password": "taken over"}, auth=eve, headers={"If-Match": '"0"'})
        higher = await client.patch(f"{ACCOUNTS}/eve", json={"Password": "mine alone", "RoleId": "Administrator"}, auth=eve)
        own = await client.patch(f"{ACCOUNTS}/eve", json={"Password": "mine alone"}, auth=eve)

        assert (other.status_code, message_of(other)) == (403, "InsufficientPrivilege")
        assert (higher.status_code, message_of(higher)) == (403, "InsufficientPrivilege")
        assert own.status_code == 200
        assert (await client.get(POOLS, auth=by("eve", "mine alone"))).status_code == 200
        assert (await client.get(POOLS, auth=eve)).status_code == 401


async def test_a_password_that_must_be_changed_is_changed_and_then_all_is_open(database_url: str) -> None:
    async with service(database_url) as client:
        login = await client.post(SESSIONS, json={"UserName": "new", "Password": PASSWORD})
        token = {"X-Auth-Token": login.headers["x-auth-token"]}

        before = await client.get(POOLS, headers=token)
        seen = await client.get(f"{ACCOUNTS}/new", headers=token)
        more = await client.patch(f"{ACCOUNTS}/new", json={"Password": "my own now", "Enabled": True}, headers=token)
        changed = await client.patch(f"{ACCOUNTS}/new", json={"Password": "my own now"}, headers=token)
        after = await client.get(POOLS, headers=token)

        assert (before.status_code, message_of(before)) == (403, "PasswordChangeRequired")
        assert (seen.status_code, seen.json()["PasswordChangeRequired"]) == (200, True)
        assert more.status_code == 403
        assert (changed.status_code, changed.json()["PasswordChangeRequired"]) == (200, False)
        assert after.status_code == 200


async def test_an_account_with_many_wrong_passwords_is_shown_as_locked_and_unlocked(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(ACCOUNTS, json=ADA)
        for number in range(5):
            assert (await client.get(POOLS, auth=by("ada", f"wrong {number}"))).status_code == 401

        locked = (await client.get(f"{ACCOUNTS}/ada")).json()["Locked"]
        whole = (await client.get(f"{ACCOUNTS}?$expand=.&$filter=Locked eq true")).json()["Members"]
        right = (await client.get(POOLS, auth=by("ada", "a longer secret"))).status_code
        lock = await client.patch(f"{ACCOUNTS}/eve", json={"Locked": True})
        unlocked = await client.patch(f"{ACCOUNTS}/ada", json={"Locked": False})

        assert locked
        assert [each["Id"] for each in whole] == ["ada"]
        assert right == 401
        assert (lock.status_code, message_of(lock)) == (400, "PropertyValueNotInList")
        assert (unlocked.status_code, unlocked.json()["Locked"]) == (200, False)
        assert (await client.get(POOLS, auth=by("ada", "a longer secret"))).status_code == 200


async def test_the_last_administrator_stays(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        assert message_of(await client.delete(f"{ACCOUNTS}/boss")) == "ResourceInUse"
        assert message_of(await client.patch(f"{ACCOUNTS}/boss", json={"Enabled": False})) == "ResourceInUse"


async def test_redfishs_own_roles_have_its_privileges_and_never_change(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        operator = (await client.get(f"{ROLES}/Operator")).json()
        changed = await client.patch(f"{ROLES}/Operator", json={"AssignedPrivileges": ["Login"]})
        removed = await client.delete(f"{ROLES}/ReadOnly")

        assert operator["AssignedPrivileges"] == ["Login", "ConfigureComponents", "ConfigureSelf"]
        assert operator["IsPredefined"]
        assert (changed.status_code, removed.status_code) == (403, 403)


async def test_a_role_of_ones_own_decides_what_its_accounts_may_do_at_once(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        made = await client.post(ROLES, json={"RoleId": "Auditor", "AssignedPrivileges": ["Login"]})
        await client.post(ACCOUNTS, json={**ADA, "RoleId": "Auditor"})
        login = await client.post(SESSIONS, json={"UserName": "ada", "Password": "a longer secret"})
        ada = {"X-Auth-Token": login.headers["x-auth-token"]}
        client.auth = httpx2.Auth()

        async def allowed() -> int:
            body = {"Name": "x", "Oem": {"FabricMgr": {"Ranges": [{"Prefix": "10.9.0.0/24"}]}}}
            return (await client.post(POOLS, json=body, headers=ada)).status_code

        before = await allowed()
        wider = {"AssignedPrivileges": ["Login", "ConfigureComponents"]}
        changed = await client.patch(made.headers["location"], json=wider, auth=by("boss"), headers={"If-Match": made.headers["etag"]})
        stale = await client.patch(made.headers["location"], json=wider, auth=by("boss"), headers={"If-Match": made.headers["etag"]})
        after = await allowed()
        by_v1 = await client.delete(f"{ROLES}/Auditor", auth=by("boss"))
        await client.delete(f"{ACCOUNTS}/ada", auth=by("boss"))
        removed = await client.delete(f"{ROLES}/Auditor", auth=by("boss"))

        assert (made.status_code, made.json()["IsPredefined"]) == (201, False)
        assert (before, changed.status_code, stale.status_code, after) == (403, 200, 412, 201)
        assert (by_v1.status_code, message_of(by_v1)) == (409, "ResourceInUse")
        assert removed.status_code == 204


async def test_a_role_names_privileges_that_there_are(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        answer = await client.post(ROLES, json={"RoleId": "Odd", "AssignedPrivileges": ["Fly"]})

        assert (answer.status_code, message_of(answer)) == (400, "PropertyValueNotInList")


async def test_the_privilege_map_says_what_is_asked_of_every_route(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        page = (await client.get(MAP)).json()

    told = {each["Entity"]: each for each in page["Mappings"]}
    for resource in tree().resources:
        for place in [Place(resource, False, {}), *([Place(resource, True, {})] if resource.members else [])]:
            for method in place.methods:
                said = [each["Privilege"] for each in told[place.entity]["OperationMap"][method]]
                assert said == dmtf.privileges(place.entity, method)
    assert told["ManagerAccount"]["PropertyOverrides"][0]["Targets"] == ["Password"]


async def test_a_token_counts_no_more_when_its_account_is_disabled_or_gone(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)
        await client.post(ACCOUNTS, json=ADA)
        login = await client.post(SESSIONS, json={"UserName": "ada", "Password": "a longer secret"})
        token = {"X-Auth-Token": login.headers["x-auth-token"]}
        client.auth = httpx2.Auth()
        assert (await client.get(POOLS, headers=token)).status_code == 200

        await client.patch(f"{ACCOUNTS}/ada", json={"Enabled": False}, auth=by("boss"))

        refused = await client.get(POOLS, headers=token)
        assert (refused.status_code, message_of(refused)) == (401, "NoValidSession")
