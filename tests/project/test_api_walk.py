"""docs/api.md, the URL conf and the schema name the same endpoints, and each command works."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from iotflow.schema import ALIASES
from tests.endpoints import Endpoint, endpoints
from tests.environment import ROOT
from tests.openapi import check, operation, operations, unnamed

PAGE = (ROOT / "docs" / "api.md").read_text()
DEMO = "http://127.0.0.1:8000"
ROW = re.compile(r"^\| (B?\d+) \| (GET|POST|PUT|PATCH|DELETE) (/\S*) \|", re.MULTILINE)
STEP = re.compile(r"^# (B?\d+) → (\d{3})$", re.MULTILINE)
AT_ROOT = ("/health", "/status", "/metrics", "/api/")

# What the original had. The page may add to these, and must not lose one.
ORIGINAL = """
1 POST /auth/register
2 POST /auth/login
3 POST /auth/logout
4 GET /users
5 GET /users/{}
6 PUT /users/{}
7 DELETE /users/{}
8 PATCH /users/{}/deactivate
9 PATCH /users/{}/activate
10 POST /devices/register
11 GET /devices/status
12 POST /devices/heartbeat
13 PUT /devices/config
14 GET /devices/credentials
15 GET /devices/user/{}
16 GET /devices/{}/status
17 GET /devices/{}/groups
18 POST /telemetry
19 GET /telemetry/{}
20 GET /telemetry/{}/latest
21 GET /telemetry/{}/aggregated
22 DELETE /telemetry/{}
23 GET /telemetry/status
24 GET /telemetry/user/{}
25 POST /groups
26 GET /groups
27 GET /groups/{}
28 PUT /groups/{}
29 DELETE /groups/{}
30 POST /groups/{}/devices
31 DELETE /groups/{}/devices/{}
32 GET /groups/{}/devices
33 POST /groups/{}/devices/bulk
34 GET /admin/devices
35 GET /admin/devices/{}
36 PUT /admin/devices/{}/status
37 DELETE /admin/devices/{}
38 GET /admin/devices/statuses
39 GET /admin/stats
40 GET /health
41 GET /health?detailed=true
42 GET /status
43 GET /
"""


def original() -> dict[str, tuple[str, str]]:
    lines = (line.split() for line in ORIGINAL.strip().splitlines())
    return {number: (method, path) for number, method, path in lines}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> dict[str, tuple[str, str]]:
    """The rows of a table by their number: method and path, parameters unnamed."""
    rows = ROW.findall(section(title))
    assert len({number for number, _, _ in rows}) == len(rows), "a number is there twice"
    return {number: (method, unnamed(path)) for number, method, path in rows}


def full(method: str, path: str) -> Endpoint:
    """An endpoint as the server has it: without query, under /api/v1 where nothing else is said."""
    path = path.partition("?")[0]
    return method, path if path == "/" or path.startswith(AT_ROOT) else f"/api/v1{path}"


def documented() -> dict[str, Endpoint]:
    rows = {**table("The 43 endpoints"), **table("Beyond the original")}
    return {number: full(*row) for number, row in rows.items()}


def routed() -> set[Endpoint]:
    return {(method, unnamed(path)) for method, path in endpoints() if path not in ALIASES}


def test_the_43_endpoints_are_on_the_page_under_their_numbers():
    assert list(original()) == [str(number) for number in range(1, 44)]
    assert table("The 43 endpoints") == original()


def test_what_came_later_is_numbered_in_the_order_of_its_table():
    numbers = list(table("Beyond the original"))
    assert numbers == [f"B{n}" for n in range(1, len(numbers) + 1)]


def test_the_page_the_urls_and_the_schema_have_the_same_endpoints():
    on_the_page = set(documented().values())
    in_the_schema = {one.key for one in operations()}
    assert on_the_page - routed() == set(), "on the page, and not there"
    assert routed() - on_the_page == set(), "there, and not on the page"
    assert in_the_schema == routed()


def test_the_page_says_who_may_ask_as_the_schema_does():
    letters = {"deviceKey": "D", "userToken": "U", "staffSession": "S"}
    rows = re.findall(r"^\| (B?\d+) \| \S+ \S+ \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == len(documented())
    schema = {one.key: one for one in operations()}
    for number, cell in rows:
        said = set(cell.strip().split(", "))
        node = schema[documented()[number]].node
        allowed = {letters[name] for one in node.get("security", []) for name in one} or {"P"}
        # "U" alone and "S" alone are both of the same proofs: permission decides, not proof.
        assert said <= allowed | {"P"}, number
        assert ("D" in said) == ("D" in allowed), number


# --- The commands -------------------------------------------------------------------------------
CURL = """
FORMAT='%{method}\\n%{http_code}\\n%{url}\\n%{content_type}\\n'
curl() {
  local at=$ANSWERS/$(date +%s%N)
  : > "$at.body"  # there may be none
  command curl --noproxy '*' -o "$at.body" -w "$FORMAT" "$@" > "$at.meta" || return
  cat "$at.body"
}
"""


@dataclass(frozen=True)
class Step:
    """A command that was run: what was asked, what came back."""

    method: str
    status: int
    path: str
    query: str
    content_type: str
    body: str


def commands() -> str:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", section("One command for each"), re.MULTILINE | re.DOTALL
    )
    return "\n".join(blocks)


def steps(folder: Path) -> Iterator[Step]:
    for meta in sorted(folder.glob("*.meta")):
        method, status, url, content_type = meta.read_text().split("\n")[:4]
        parts = urlsplit(url)
        body = meta.with_suffix(".body")
        yield Step(
            method,
            int(status),
            parts.path,
            parts.query,
            content_type,
            body.read_text(),
        )


def test_every_command_of_the_page_answers_as_it_says(url, superuser, tmp_path):
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.fail(f"The commands need {program}: apt-get install {program}")
    script = commands()
    assert script.count(DEMO) == 1, "the page names its server once"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", f"{CURL}\n{script.replace(DEMO, url)}"],
        env={**os.environ, **superuser, "ANSWERS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    ran = list(steps(tmp_path))
    assert done.returncode == 0, f"{done.stderr}\nafter {ran[-1] if ran else 'nothing'}"
    said = STEP.findall(script)
    assert len(said) == len(ran), "one comment to each command"
    for (number, status), step in zip(said, ran, strict=True):
        where = f"{number}: {step.method} {step.path} {step.body[:300]}"
        assert operation(step.method, step.path).key == documented()[number], where
        assert step.status == int(status), where
        is_json = step.content_type.startswith("application/json")
        check(
            step.method,
            step.path,
            step.status,
            step.content_type,
            json.loads(step.body) if is_json else step.body,
        )
    assert {number for number, _ in said} == set(documented()), "every endpoint has a command"
    detailed = [step for (number, _), step in zip(said, ran, strict=True) if number == "41"]
    assert "detailed=true" in detailed[0].query
