"""The documentation, held to the code: what it names is there, and what is there it names."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from iotflow import __version__
from tests.environment import ROOT

SETTINGS = ROOT / "iotflow" / "settings.py"
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
PAGES = sorted(
    {
        *(page for pattern in ("*.md", "docs/**/*.md") for page in ROOT.glob(pattern)),
        *(ROOT / folder / "README.md" for folder in ("clients/python", "deploy", "samples")),
    }
)
OUR_READERS = {"bounded", "choice", "rate", "replication", "secret", "env"}
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
# Written so that this file, which is searched like every other, does not hold them itself.
FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/"),
    "a folder that is not part of the project": re.compile(r"(?<![\w-])sh[a]red/"),
    "an index of packages": re.compile(r"--(?:extra-)?index-url|--tr[u]sted-host"),
}
PLANTED = {
    "a path of somebody's machine": f"see /{'root'}/x",
    "a folder that is not part of the project": f"as {'shared'}/design.md says",
    "an index of packages": f"pip install --{'index'}-url https://example.org/simple",
}
HARMLESS = "whitenoise; shared() and framework/; https://example.org/work; //workers"


# --- Settings -----------------------------------------------------------------------------------
def reads() -> Iterator[tuple[str, str, list[ast.expr]]]:
    """(reader, variable, further arguments) of every call in settings.py that reads a variable."""
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.args[0]
        match node.func:
            case ast.Attribute(value=ast.Name(id="env"), attr=reader):
                pass
            case ast.Name(id=reader) if reader in OUR_READERS:
                pass
            case ast.Name(id="tls"):
                for part in ("CA", "CERT", "KEY"):
                    yield "tls", f"{ast.literal_eval(name)}_TLS_{part}", []
                continue
            case _:
                continue
        if isinstance(name, ast.Constant):
            yield reader, name.value, node.args[1:]


def rows() -> dict[str, list[str]]:
    """The rows of the settings page that begin with a variable: its other cells, by variable."""
    found: dict[str, list[str]] = {}
    for line in SETTINGS_PAGE.read_text().splitlines():
        if row := re.match(r"\| `([A-Z][A-Z0-9_]+)` \|(.*)\|$", line):
            assert row[1] not in found, f"{row[1]} is there twice"
            found[row[1]] = [cell.strip() for cell in row[2].split("|")]
    return found


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_every_variable_that_the_settings_read_is_documented():
    read = {variable for _, variable, _ in reads()}
    assert len(read) > 50, "the search for variables finds too few"
    assert "os.environ" not in SETTINGS.read_text(), "variables are read by way of env"
    assert sorted(read - set(rows())) == []


def test_no_variable_is_documented_that_nothing_reads():
    read = {variable for _, variable, _ in reads()}
    for variable, cells in rows().items():
        if variable in read:
            continue
        readers = [ROOT / name for name in re.findall(r"`([\w./-]+)`", cells[1])]
        assert readers, f"{variable} is read by nothing"
        for reader in readers:
            assert re.search(rf"\b{variable}\b", reader.read_text()), f"{variable} in {reader}"


def test_defaults_and_bounds_are_documented_as_they_are():
    documented = rows()
    checked = 0
    for reader, variable, arguments in reads():
        if reader != "bounded":
            continue
        default, least, most = (eval(ast.unparse(part), {}) for part in arguments)
        assert number(documented[variable][0]) == default, variable
        bounds = [number(bound) for bound in documented[variable][1].split(" to ")]
        assert bounds == [least, most], variable
        checked += 1
    assert checked > 25


def test_choices_are_documented_as_they_are():
    documented = rows()
    for reader, variable, arguments in reads():
        if reader == "choice":
            default, allowed = (ast.literal_eval(part) for part in arguments)
            assert documented[variable][0] == f"`{default}`"
            assert tuple(re.findall(r"`(\w+)`", documented[variable][1])) == allowed


def test_limits_are_documented_as_they_are():
    documented = rows()
    found = {name: ast.literal_eval(rest[0]) for reader, name, rest in reads() if reader == "rate"}
    assert len(found) >= 8
    for variable, default in found.items():
        assert documented[variable][0] == f"`{default}`", variable


def test_every_system_check_is_documented_and_no_other():
    ids = re.compile(r"iotflow\.[EW]\d{3}")
    used = set(ids.findall((ROOT / "iotflow" / "checks.py").read_text()))
    assert len(used) >= 8
    assert set(ids.findall(SETTINGS_PAGE.read_text())) == used


def test_the_example_environment_has_what_compose_demands_and_only_what_is_known():
    compose = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()
    demanded = set(re.findall(r"\$\{(\w+):\?", compose))
    assert len(demanded) >= 5
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert demanded <= set(given)
    assert {given[name] for name in demanded} == {""}, "an example holds no secret"
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert sorted(named - set(rows())) == []
    demo = (ROOT / "deploy" / "compose.demo.env").read_text()
    assert demanded <= set(re.findall(r"^(\w+)=", demo, re.MULTILINE))


# --- Pages --------------------------------------------------------------------------------------
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(CODE.sub("", page.read_text())):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower())
        anchor, count = plain.replace(" ", "-"), 0
        while (candidate := f"{anchor}-{count}" if count else anchor) in found:
            count += 1
        found.add(candidate)
    return found


@pytest.mark.parametrize("document", PAGES, ids=lambda one: str(one.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document):
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for link in LINK.findall(CODE.sub("", page.read_text())):
            target = (page.parent / link.partition("#")[0]).resolve()
            if not re.match(r"[a-z]+:", link) and target.is_file():
                waiting.append(target)
    assert sorted(str(page.relative_to(ROOT)) for page in set(PAGES) - reached) == []


def test_every_make_task_and_command_that_the_pages_name_is_there():
    tasks = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {path.stem for path in ROOT.glob("*/management/commands/*.py")}
    commands |= {"check", "createsuperuser", "changepassword", "makemigrations"}
    for page in PAGES:
        text = page.read_text()
        named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE))
        assert named <= tasks, page
        assert set(re.findall(r"manage\.py ([a-z_]+)", text)) <= commands, page


def test_the_changelog_knows_the_version():
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# --- Words that have no place here --------------------------------------------------------------
@cache
def project_files() -> list[Path]:
    """What is in the project by git, or by looking where there is no git; texts only."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    else:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [
            name for name in names if not (name.parts[0].startswith(".") or name.parts[0] == "var")
        ]
    files = [ROOT / name for name in names if name.suffix not in {".csv", ".png", ".woff2", ".pyc"}]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def offences(text: str) -> set[str]:
    return {what for what, pattern in FORBIDDEN.items() if pattern.search(text)}


def test_no_file_speaks_of_a_machine_or_of_what_is_not_in_the_project():
    found = {}
    for path in project_files():
        if wrong := offences(path.read_text(errors="replace")):
            found[str(path.relative_to(ROOT))] = wrong
    assert found == {}


def test_the_search_for_such_words_finds_them_and_looks_everywhere():
    for what, text in PLANTED.items():
        assert offences(text) == {what}
    assert offences(HARMLESS) == set()
    names = {str(path.relative_to(ROOT)) for path in project_files()}
    assert {
        *("README.md", "Makefile", "docker-compose.yml", ".env.example", "docs/settings.md"),
        *("iotflow/settings.py", "deploy/services.py", "tests/project/test_docs.py"),
    } <= names
