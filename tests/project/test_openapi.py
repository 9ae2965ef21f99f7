"""The OpenAPI document is valid, complete, and has examples that are true."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client
from openapi_spec_validator import OpenAPIV31SpecValidator

from iotflow import examples
from iotflow.schema import TAGS, document
from tests.openapi import PARAMETER, Operation, errors, operations, resolved

SCHEMES = {"deviceKey", "userToken", "staffSession"}


def every_operation() -> list[Operation]:
    found = operations()
    assert len(found) > 40
    return found


def test_it_is_valid_openapi_3_1_and_made_without_a_warning():
    assert document()["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document()).validate()
    call_command("spectacular", "--fail-on-warn", "--validate", stdout=StringIO())


def test_null_is_not_one_of_two_schemas_that_both_allow_it():
    assert '"oneOf": [{}, {"type": "null"}]' not in json.dumps(document())


def test_it_is_served_as_json_and_as_yaml_to_who_asks_for_it():
    for accept, content_type in (
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/yaml", "application/yaml"),
    ):
        answer = Client().get("/api/schema", headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(content_type)
    with_stale_token = Client().get("/api/schema", headers={"authorization": "Bearer stale"})
    assert with_stale_token.json() == json.loads(json.dumps(document()))


def test_every_operation_has_a_readable_id_of_its_own():
    ids = Counter(operation.node["operationId"] for operation in every_operation())
    assert [name for name, count in ids.items() if count > 1] == []
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []


def test_every_operation_has_a_sentence_and_a_tag_and_is_not_deprecated():
    for operation in every_operation():
        assert re.fullmatch(r"[A-Z`].{5,110}\.", operation.node["summary"]), operation.key
        assert set(operation.node["tags"]) <= set(TAGS), operation.key
        assert "deprecated" not in operation.node


def test_every_parameter_of_a_path_is_described():
    for operation in every_operation():
        parameters = {
            parameter["name"]: parameter
            for parameter in operation.node.get("parameters", [])
            if parameter["in"] == "path"
        }
        named = {name.strip("{}") for name in PARAMETER.findall(operation.path)}
        assert set(parameters) == named, operation.key
        assert all(parameter["description"] for parameter in parameters.values()), operation.key


def test_every_success_has_a_body():
    for operation in every_operation():
        successes = [status for status in operation.node["responses"] if status < "300"]
        assert successes, operation.key
        for status in successes:
            assert operation.response(int(status))["content"], operation.key


def test_every_error_has_the_one_shape_and_every_operation_may_be_429():
    own = {("GET", "/health", "503")}  # the state of the stores
    for operation in every_operation():
        assert "429" in operation.node["responses"], operation.key
        assert "500" not in operation.node["responses"], operation.key
        for status, node in operation.node["responses"].items():
            if status >= "400" and (*operation.key, status) not in own:
                assert node == {"$ref": f"#/components/responses/Error{status}"}, operation.key
    for name, node in document()["components"]["responses"].items():
        schema = node["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Error"}
        assert ("Retry-After" in node.get("headers", {})) == (name in ("Error429", "Error503"))
        assert ("WWW-Authenticate" in node.get("headers", {})) == (name == "Error401")


def test_who_may_ask_is_said_of_every_operation():
    assert set(document()["components"]["securitySchemes"]) == SCHEMES
    public = set()
    for operation in every_operation():
        schemes = {name for one in operation.node.get("security", []) for name in one}
        assert schemes <= SCHEMES
        if not schemes:
            public.add(operation.key)
        elif {} not in operation.node["security"]:
            assert "401" in operation.node["responses"], operation.key
    assert public == {
        ("GET", "/"),
        ("GET", "/api/docs"),
        ("GET", "/api/schema"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/metrics"),
        ("GET", "/status"),
        ("GET", "/api/v1/telemetry/status"),
        ("POST", "/api/v1/auth/login"),
        ("POST", "/api/v1/auth/register"),
    }


def every_example() -> Iterator[tuple[str, dict, object]]:
    for operation in operations():
        nodes = {**operation.node["responses"], "request": operation.node.get("requestBody", {})}
        for name, node in nodes.items():
            for media in resolved(node).get("content", {}).values():
                if "example" in media:
                    yield (
                        f"{operation.node['operationId']} {name}",
                        media["schema"],
                        media["example"],
                    )


def test_every_example_fits_its_schema_and_none_is_left_over():
    found = {name: errors(schema, example) for name, schema, example in every_example()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    wanted = {f"{name} request" for name in examples.REQUESTS}
    wanted |= {
        f"{name} {status}" for name, answers in examples.RESPONSES.items() for status in answers
    }
    assert wanted <= set(found)
    assert len(wanted) > 20


@pytest.mark.parametrize("path", ["/api/docs"])
def test_the_page_of_the_document_needs_no_other_host(path):
    page = Client().get(path).content.decode()
    assert "swagger-ui" in page
    addresses = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page)
    assert len(addresses) >= 4
    assert [address for address in addresses if not re.match(r"/(?!/)", address)] == []
    assert "https://" not in page
