"""`make audit`: what is installed, what is written, how it would be run. One line for each part.

The exit code is 1 where a part is not clean, and 3 where all that was looked at is, but who had to
be asked did not answer: then nothing is known of it. OFFLINE=1 asks nobody. ADVISORIES is a folder
with a copy of the Python Packaging Advisory Database, for where PyPI's service cannot be reached.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"[a-z0-9-]+(\[[a-z,]+\])?==[\w.]+")
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-tracing.txt")
CODE = ("iotflow", "accounts", "devices", "events", "telemetry", "clients/python", "deploy")
FREE = re.compile(r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software|LGPL|MPL|Zlib|Unlicense)", re.I)
# Of examples and of the demo, which say of themselves that they are none.
KNOWN = (
    r"^(PASSWORD|password|word|unused|change-me|iotflow-tls|correct horse 42|demo-[\w-]+"
    r"|iotd_9b1d…)$"
)
# What an installation is given, but for the servers, none of which is asked.
PRODUCTION = {
    "SECRET_KEY": os.urandom(32).hex(),
    "API_KEY_PEPPER": os.urandom(32).hex(),
    "ALLOWED_HOSTS": "iot.example.org",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "DATABASE_URL": "postgres://iotflow@127.0.0.1/iotflow",
    "CASSANDRA_HOSTS": "127.0.0.1",
    "REDIS_URL": "redis://127.0.0.1/0",
    "MONGODB_URI": "mongodb://127.0.0.1/iotflow",
    "ADMIN_TOTP": "required",
    "ALLOW_HTTP": "0",
    "DEBUG": "0",
}


class Unclean(Exception):
    """What was found."""


class Unanswered(Exception):
    """Why nothing is known."""


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A module of this environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )


def clean(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode:
        raise Unclean(f"{done.stdout}\n{done.stderr}".strip())


def pinned(name: str) -> Iterator[str]:
    """The requirements of a file; Unclean for one that leaves the version open."""
    for line in (ROOT / name).read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-r "):
            continue
        if not PIN.fullmatch(text):
            raise Unclean(f"{name}: {text} names no one version")
        yield text


def requirements() -> str:
    """Each names one version, and what is installed goes together."""
    count = sum(1 for name in REQUIREMENTS for _ in pinned(name))
    clean(run("-m", "pip", "check", "--disable-pip-version-check"))
    return f"{count} requirements, each of one version; what is installed goes together"


def licences() -> str:
    """Of what the service installs, and of what that needs in turn."""
    found: dict[str, str] = {}
    waiting = [Requirement(text) for text in pinned("requirements.txt")]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            one = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        if name in found:
            continue
        found[name] = licence(one.metadata)
        extras = requirement.extras or {""}
        for needed in map(Requirement, one.requires or ()):
            if any(needed.marker is None or needed.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(needed)
    wrong = {name: text for name, text in found.items() if not is_free(text)}
    if wrong:
        raise Unclean("\n".join(f"{name}: {text or 'no licence'}" for name, text in wrong.items()))
    return f"{len(found)} packages of the service, all under licences that let it be passed on"


def licence(metadata: object) -> str:
    classifiers = [text for text in metadata.get_all("Classifier") or () if "License ::" in text]
    own = (metadata.get("License") or "").strip().splitlines()[:1]
    return metadata.get("License-Expression") or "; ".join([*classifiers, *own])


def is_free(text: str) -> bool:
    return bool(FREE.search(text)) and not re.search(r"(?<!L)GPL|Affero", text)


def code() -> str:
    """bandit; what it is told to leave out is in pyproject.toml with the reason."""
    clean(run("-m", "bandit", "-q", "-c", "pyproject.toml", "-r", *CODE, "manage.py"))
    return f"bandit finds nothing in {', '.join(CODE)}"


def deployment() -> str:
    """Django's and our own checks, with the variables that production has."""
    command = ("manage.py", "check", "--deploy", "--fail-level", "WARNING")
    done = run(*command, **PRODUCTION)
    clean(done)
    return "manage.py check --deploy has no warning with production's variables"


def secrets() -> str:
    """detect-secrets, on every file that git has. In tests a word beside `password` is made up."""
    files = [name for name in git("ls-files").splitlines() if not name.endswith(".png")]
    tests = [name for name in files if name.startswith("tests/")]
    found = scan([name for name in files if name not in tests])
    found += scan(tests, "--disable-plugin", "KeywordDetector")
    if found:
        raise Unclean("\n".join(found))
    return f"no secret in {len(files)} files"


def scan(files: Sequence[str], *options: str) -> list[str]:
    """Where something looks like one, as `path:line: kind`."""
    done = run(
        "-m", "detect_secrets", "scan", "--all-files", "--exclude-secrets", KNOWN, *options, *files
    )
    if done.returncode:
        raise Unclean(done.stderr.strip())
    found = json.loads(done.stdout)["results"].values()
    return [
        f"{one['filename']}:{one['line_number']}: {one['type']}" for each in found for one in each
    ]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def releases() -> str:
    """The package index, by pip: each installed version is the newest of its series.

    A hole is mended in the next release of a series, and a release with a mistake in it is yanked,
    which pip passes over: both show as another version than the one that is installed.
    """
    present = installed()
    done = run(
        *("-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"),
        *("--disable-pip-version-check", "--only-binary", ":all:", "--report", "-"),
        *(f"{name}=={series(version)}" for name, version in present.items()),
    )
    try:
        found = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    except (ValueError, KeyError):
        raise Unanswered(f"the index did not answer: {last_line(done.stderr)}") from None
    newest = {canonicalize_name(one["name"]): one["version"] for one in found}
    later = [
        f"{name} {version}: the index has {newest[name]}"
        for name, version in present.items()
        if Version(newest[name]) != version
    ]
    if later:
        raise Unclean("\n".join(later))
    return f"each of {len(present)} packages is the newest of its series, and none is yanked"


def installed() -> dict[str, Version]:
    """By canonical name; not what is installed from a folder here."""
    done = run("-m", "pip", "list", "--local", "--exclude-editable", "--format", "json")
    clean(done)
    packages = json.loads(done.stdout)
    return {canonicalize_name(one["name"]): Version(one["version"]) for one in packages}


def series(version: Version) -> str:
    """`5.2.19` is one of `5.2.*`, and `2026.6` one of `2026.*`."""
    return ".".join(map(str, version.release[:-1] or version.release)) + ".*"


def vulnerabilities() -> str:
    """PyPI's service by pip-audit, or ADVISORIES, about every package that is installed."""
    folder = os.environ.get("ADVISORIES")
    return by_advisories(Path(folder), installed()) if folder else by_service()


def by_service() -> str:
    done = run("-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise Unanswered(f"the service did not answer: {last_line(done.stderr)}") from None
    found = [f"{one['name']}: {bug['id']}" for one in packages for bug in one.get("vulns", ())]
    if found:
        raise Unclean("\n".join(found))
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped:
        raise Unanswered(f"it said nothing of {len(skipped)} of {len(packages)} packages")
    return f"no known vulnerability in {len(packages)} packages"


def by_advisories(folder: Path, packages: Mapping[str, Version]) -> str:
    """A copy of the database as its repository has it: `vulns/<name>/<id>.yaml` in OSV's format."""
    newest = ""
    found = []
    for path in folder.glob("vulns/*/*.yaml"):
        advisory = yaml.load(path.read_bytes(), yaml.CSafeLoader)
        newest = max(newest, str(advisory["modified"]))
        version = packages.get(canonicalize_name(path.parent.name))
        if version is not None and affects(advisory, version):
            found.append(f"{path.parent.name} {version}: {advisory['id']}")
    if not newest:
        raise Unanswered(f"there are no advisories in {folder}")
    if found:
        raise Unclean("\n".join(sorted(found)))
    return f"no known vulnerability in {len(packages)} packages, by advisories up to {newest[:10]}"


def affects(advisory: Mapping[str, Any], version: Version) -> bool:
    """By OSV's evaluation, https://ossf.github.io/osv-schema/#evaluation."""
    if "withdrawn" in advisory:
        return False
    for one in advisory["affected"]:
        if str(version) in one.get("versions", ()):
            return True
        ranges = (each for each in one.get("ranges", ()) if each["type"] == "ECOSYSTEM")
        if any(is_within(each["events"], version) for each in ranges):
            return True
    return False


def is_within(events: Iterable[Mapping[str, str]], version: Version) -> bool:
    """Whether the last of what happened up to this version brought the hole in."""
    within = False
    steps = ((Version(text), kind) for event in events for kind, text in event.items())
    for at, kind in sorted(steps):
        if kind == "introduced" and version >= at:
            within = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            within = False
    return within


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


OFFLINE = (requirements, licences, code, deployment, secrets)
ASKED = (releases, vulnerabilities)


def main() -> int:
    status = 0
    asked = () if os.environ.get("OFFLINE") else ASKED
    for part in (*OFFLINE, *asked):
        try:
            print(f"{part.__name__:15}  clean    {part()}", flush=True)
        except Unclean as error:
            print(f"{part.__name__:15}  UNCLEAN\n{error}", flush=True)
            status = 1
        except Unanswered as error:
            print(f"{part.__name__:15}  UNKNOWN  {error}", flush=True)
            status = status or 3
    return status


if __name__ == "__main__":
    sys.exit(main())
