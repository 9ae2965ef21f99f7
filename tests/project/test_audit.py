"""`make audit`: what it looks at is clean, and what is not would be found."""

import subprocess
import sys

import django
import pytest
import yaml
from packaging.version import Version

from deploy import audit
from tests.environment import ROOT
from tests.project.test_settings import manage

# In two parts, so that this file holds none itself.
PLANTED = "aws_key = 'AKIA" + "QYLPMN5HHHFPZAM2'\n"


def module(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_the_deploy_check_is_clean(tmp_path):
    command = ("check", "--deploy", "--fail-level", "WARNING")
    result = manage(tmp_path, *command, **audit.PRODUCTION)
    assert result.returncode == 0, result.stderr


def test_the_deploy_check_would_find_plain_http(tmp_path):
    command = ("check", "--deploy", "--fail-level", "WARNING")
    result = manage(tmp_path, *command, **{**audit.PRODUCTION, "ALLOW_HTTP": "1"})
    assert result.returncode != 0
    assert "security.W" in result.stderr
    assert "iotflow.W003" in result.stderr


def test_every_requirement_names_one_version():
    assert "each of one version" in audit.requirements()


@pytest.mark.parametrize("line", ["django", "django>=5", "django~=5.2", "git+https://x.example/y"])
def test_one_that_does_not_is_unclean(tmp_path, monkeypatch, line):
    (tmp_path / "requirements.txt").write_text(f"# why\nredis==8.1.0\n{line}\n")
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    with pytest.raises(audit.Unclean, match="names no one version"):
        list(audit.pinned("requirements.txt"))


def test_what_the_service_installs_may_be_passed_on():
    assert "packages of the service" in audit.licences()


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("MIT", True),
        ("Apache-2.0 AND BSD-3-Clause", True),
        ("License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("MIT; GPL-2.0-only", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_is_free_or_it_is_named(text, free):
    assert audit.is_free(text) == free


def test_a_secret_in_a_file_is_found(tmp_path, monkeypatch):
    (tmp_path / "clean.py").write_text("answer = 42\n")
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    assert audit.scan(["clean.py"]) == []
    assert "planted.py:1: AWS Access Key" in audit.scan(["clean.py", "planted.py"])


def test_a_call_that_runs_what_it_is_given_is_found(tmp_path):
    (tmp_path / "evil.py").write_text("import os, sys\nos.system(sys.argv[1])\neval(sys.argv[2])\n")
    done = module("bandit", "-q", "-c", "pyproject.toml", str(tmp_path / "evil.py"))
    assert done.returncode == 1
    assert "B605" in done.stdout


def test_where_nobody_answers_nothing_is_called_clean(monkeypatch, capsys):
    def unanswered() -> str:
        raise audit.Unanswered("no route to it")

    monkeypatch.setattr(audit, "OFFLINE", ())
    monkeypatch.setattr(audit, "ASKED", (unanswered,))
    monkeypatch.delenv("OFFLINE", raising=False)
    assert audit.main() == 3
    said = capsys.readouterr().out
    assert "UNKNOWN" in said
    assert "clean" not in said


def advisory(folder, name="django", **fields):
    """One of the database, written to where it would be."""
    body = {
        "id": "PYSEC-2024-1",
        "modified": "2024-08-07T17:22:10Z",
        "affected": [{"package": {"ecosystem": "PyPI", "name": name}, **fields}],
    }
    path = folder / "vulns" / name / "PYSEC-2024-1.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump(body))
    return path


# As the database writes it: several ranges in one list, in no order.
MENDED = [{"introduced": "5.0"}, {"fixed": "5.0.8"}, {"introduced": "4.2"}, {"fixed": "4.2.15"}]


@pytest.mark.parametrize(
    ("events", "version", "within"),
    [
        (MENDED, "4.1", False),
        (MENDED, "4.2", True),
        (MENDED, "4.2.14", True),
        (MENDED, "4.2.15", False),
        (MENDED, "5.0rc1", False),
        (MENDED, "5.0.7", True),
        (MENDED, "5.0.8", False),
        (MENDED, "5.2.19", False),
        ([{"introduced": "0"}], "99", True),
        ([{"introduced": "0"}, {"last_affected": "2.0"}], "2.0", True),
        ([{"introduced": "0"}, {"last_affected": "2.0"}], "2.1", False),
    ],
)
def test_a_version_is_within_what_an_advisory_says(tmp_path, events, version, within):
    advisory(tmp_path, ranges=[{"type": "ECOSYSTEM", "events": events}])
    packages = {"django": Version(version), "redis": Version("8.1.0")}
    if within:
        with pytest.raises(audit.Unclean, match=f"django {version}: PYSEC-2024-1"):
            audit.by_advisories(tmp_path, packages)
    else:
        said = audit.by_advisories(tmp_path, packages)
        assert said == "no known vulnerability in 2 packages, by advisories up to 2024-08-07"


def test_a_version_that_an_advisory_lists_is_found(tmp_path):
    advisory(tmp_path, name="zope-interface", versions=["5.1", "5.2"])
    with pytest.raises(audit.Unclean, match=r"zope-interface 5\.2"):
        audit.by_advisories(tmp_path, {"zope-interface": Version("5.2")})
    audit.by_advisories(tmp_path, {"zope-interface": Version("5.3")})


def test_an_advisory_that_was_withdrawn_says_nothing(tmp_path):
    path = advisory(tmp_path, versions=["5.0"])
    path.write_text(path.read_text() + "withdrawn: '2024-09-01T00:00:00Z'\n")
    audit.by_advisories(tmp_path, {"django": Version("5.0")})


def test_a_folder_without_advisories_calls_nothing_clean(tmp_path):
    with pytest.raises(audit.Unanswered, match="no advisories"):
        audit.by_advisories(tmp_path, {"django": Version("5.0")})


@pytest.mark.parametrize(
    ("version", "series"), [("5.2.19", "5.2.*"), ("2026.6", "2026.*"), ("7", "7.*")]
)
def test_the_series_of_a_release(version, series):
    assert audit.series(Version(version)) == series


def test_what_is_installed_is_what_runs_here():
    packages = audit.installed()
    assert str(packages["django"]) == django.__version__
