"""`make audit`: what is installed, what is written, how it would be run. One line for each part.

The exit code is 1 where a part is not clean, and 3 where all that was looked at is, but the service
of known vulnerabilities did not answer: then nothing is known of them. OFFLINE=1 does not ask it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

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
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
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


def vulnerabilities() -> str:
    """pip-audit, which asks PyPI about every package that is installed."""
    done = run("-m", "pip_audit", "--local", "--format", "json", "--progress-spinner", "off")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unanswered(f"the service did not answer: {reason}") from None
    found = [f"{one['name']}: {bug['id']}" for one in packages for bug in one.get("vulns", ())]
    if found:
        raise Unclean("\n".join(found))
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    if skipped:
        raise Unanswered(f"it said nothing of {len(skipped)} of {len(packages)} packages")
    return f"no known vulnerability in {len(packages)} packages"


OFFLINE = (requirements, licences, code, deployment, secrets)


def main() -> int:
    status = 0
    asked = () if os.environ.get("OFFLINE") else (vulnerabilities,)
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
