"""`make audit`: what it looks at is clean, and what is not would be found."""

import subprocess
import sys

import pytest

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
    monkeypatch.setattr(audit, "vulnerabilities", unanswered)
    monkeypatch.delenv("OFFLINE", raising=False)
    assert audit.main() == 3
    said = capsys.readouterr().out
    assert "UNKNOWN" in said
    assert "clean" not in said
