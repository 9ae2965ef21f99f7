"""The tour of the README, run as printed against a real server."""

import json
import os
import re
import shutil
import subprocess

import pytest

from tests.environment import ROOT

DEMO = "http://127.0.0.1:8000"
# Every answer's status goes to a file of its own; the commands stay as they are printed.
CURL = (
    """curl() { command curl --noproxy '*' -w '%{stderr}%{http_code}\\n' "$@" 2>> "$STATUSES"; }"""
)


def tour() -> str:
    """The shell commands of the README's tour."""
    readme = (ROOT / "README.md").read_text()
    section = readme.split("\n## A tour\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert blocks, "the tour has no ```sh block"
    return "\n".join(blocks)


def documents(text: str) -> list[dict]:
    """The JSON documents that follow each other in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (text := text[at:].lstrip()) != "":
        document, at = decoder.raw_decode(text)
        found.append(document)
    return found


def test_the_tour_of_the_readme_works_as_printed(url, tmp_path):
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.fail(f"The tour needs {program}: apt-get install {program}")
    script = tour()
    assert script.count(DEMO) == 1, "the tour names its server once"
    statuses = tmp_path / "statuses"
    done = subprocess.run(
        ["bash", "-eu", "-c", f"{CURL}\n{script.replace(DEMO, url)}"],
        env={**os.environ, "STATUSES": str(statuses)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # register, log in, register a device, submit twice, history, latest
    assert statuses.read_text().split() == ["201", "200", "201", "201", "201", "200", "200"]
    user, now, late, history, latest = documents(done.stdout)
    assert user["user"]["username"].startswith("ada")
    assert now["timestamp"] > late["timestamp"]
    assert [reading["measurements"] for reading in history["data"]] == [
        {"burner": True, "temperature": 61.5},
        {"temperature": 58.0},
    ]
    assert history["data"][0]["metadata"] == {"sensor": "top"}
    readme = (ROOT / "README.md").read_text()
    shown = f'"latest_data":{json.dumps(latest["latest_data"], separators=(",", ":"))}'
    assert shown in readme, "the README shows another answer"
