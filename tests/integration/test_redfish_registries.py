"""Where schemas and registries are published, and the service's own description."""

import json

import httpx2

from fabricmgr.redfish.build import tree
from tests.integration.test_redfish import as_boss, message_of, service

OPENAPI = "/redfish/v1/openapi.yaml"


async def test_each_type_in_use_has_a_page_that_says_where_its_schema_is(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        for resource in tree().resources:
            for name in (resource.schema, *([f"{resource.schema}Collection"] if resource.members else [])):
                page = (await client.get(f"/redfish/v1/JsonSchemas/{name}")).json()
                assert page["Languages"] == ["en"], name
                (where,) = page["Location"]
                if name.startswith("FabricMgr"):
                    served = await client.get(where["Uri"])
                    assert served.status_code == 200
                    assert name in served.json()["title"]
                else:
                    assert where["PublicationUri"].startswith("https://redfish.dmtf.org/schemas/v1/")
        unknown = await client.get("/redfish/v1/JsonSchemas/Nothing")
    assert unknown.status_code == 404


async def test_our_registry_is_served_and_dmtfs_are_pointed_to(database_url: str) -> None:
    async with service(database_url) as client:
        await as_boss(client)

        own = (await client.get("/redfish/v1/Registries/FabricMgr")).json()
        served = await client.get(own["Location"][0]["Uri"])
        base = (await client.get("/redfish/v1/Registries/Base")).json()

    assert own["Registry"] == "FabricMgr.1.2"
    assert served.json()["RegistryPrefix"] == "FabricMgr"
    assert base["Registry"] == "Base.1.22"
    assert base["Location"] == [{"Language": "en", "PublicationUri": "https://redfish.dmtf.org/registries/Base.1.22.1.json"}]


async def test_the_service_describes_each_route_and_method_in_openapi(database_url: str) -> None:
    async with service(database_url) as client:
        client.auth = httpx2.BasicAuth("eve", "correct horse")

        answer = await client.get(OPENAPI, headers={"Accept": "application/yaml"})
        nobody = await client.get(OPENAPI, auth=httpx2.Auth())
        wrong = await client.get(OPENAPI, headers={"Accept": "application/json"})

    document = json.loads(answer.text)  # JSON is YAML
    assert answer.headers["content-type"] == "application/yaml"
    assert (nobody.status_code, message_of(nobody)) == (401, "NoValidSession")
    assert wrong.status_code == 406
    assert document["openapi"].startswith("3.1")
    for resource in tree().resources:
        methods = {method.lower() for method in resource.methods if method != "HEAD"}
        assert methods == set(document["paths"][resource.uri]) - {"parameters"}
    assert document["paths"]["/redfish/v1/SessionService/Sessions"]["post"]["security"] == []
    account = document["paths"]["/redfish/v1/AccountService/Accounts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert account["required"] == ["UserName", "Password", "RoleId"]
