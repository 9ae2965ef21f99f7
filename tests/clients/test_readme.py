"""What the client's README shows, run as printed against a live server."""

import re
import subprocess
import sys
from pathlib import Path

from iotflow_client import __version__

from tests.environment import ROOT

CLIENT = ROOT / "clients" / "python"
DEMO = "http://127.0.0.1:8000"


def block(language: str) -> str:
    """The one block of this language."""
    text = (CLIENT / "README.md").read_text()
    [found] = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


def test_the_example_works_as_printed(url, environment, tmp_path):
    program, commands = block("python"), block("sh")
    assert DEMO in program
    assert DEMO in commands
    done = subprocess.run(
        [sys.executable, "-c", program.replace(DEMO, url)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    sent, *readings, latest, key = done.stdout.splitlines()
    assert sent == "Flushed(sent=2, rejected=0) and waiting: 0"
    assert [line.split(" ", 2)[2] for line in readings] == [
        "{'temperature': 62.4}",
        "{'temperature': 62.0}",
        "{'burner': True, 'temperature': 61.5}",
    ]
    assert latest == "{'burner': True, 'temperature': 62.4}"
    python3 = Path(tmp_path / "python3")
    python3.symlink_to(sys.executable)
    script = f'PATH="{Path(sys.executable).parent}:$PATH"\n{key}\n{commands.replace(DEMO, url)}'
    done = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    _, kept, latest, heading, *rows = done.stdout.splitlines()
    assert kept == '{"sent": 1, "rejected": 0, "waiting": 0}'
    assert '"values": {"burner": false, "temperature": 63.3}' in latest
    assert heading == "timestamp,temperature,burner"
    assert [row.split(",")[1] for row in rows] == ["63.3", "63.1", "62.4", "62.0", "61.5"]


def test_the_version_is_the_same_everywhere():
    assert f'\nversion = "{__version__}"\n' in (CLIENT / "pyproject.toml").read_text()


def test_the_package_says_that_it_is_typed():
    assert (CLIENT / "iotflow_client" / "py.typed").exists()
