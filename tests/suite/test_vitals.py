import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")

SCRIPT = """
import os, signal, subprocess, sys, time
from suite.execution import vitals
server = subprocess.Popen(["sleep", "60"])
vitals.SERVERS = {"sleep": "node agent"}
vitals.POLL_S = 0.05
with vitals.ended_with_ray():
    os.kill(server.pid, signal.SIGKILL) if sys.argv[1] == "kill" else None
    time.sleep(30 if sys.argv[1] == "kill" else 0.3)
server.kill()
time.sleep(0.3)
print("went on")
"""


def run(how):
    return subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_ends_in_one_line_with_a_server_of_ray():
    done = run("kill")
    assert done.returncode == 2
    assert done.stderr == "fisherbench: Ray's node agent has died; the same command goes on where it stopped\n"
    assert "went on" not in done.stdout


def test_a_server_that_is_ended_after_the_work_ends_nothing():
    done = run("leave")
    assert (done.returncode, done.stdout) == (0, "went on\n")
