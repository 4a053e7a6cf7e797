"""One process at a time holds the lock of a folder, and names itself."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxembed import folder_lock
from jaxembed.folder_lock import LockedError, clear, locked

HOLD = """
import runpy, sys, time
from pathlib import Path
module = runpy.run_path(sys.argv[1])
with module["locked"](Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLD, folder_lock.__file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_of_the_first_and_a_killed_one_is_forgotten(holder, tmp_path):
    named = f"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}, since 20"
    with pytest.raises(LockedError, match=named), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_this_process_holds_a_folder_once(tmp_path):
    with locked(tmp_path / "new"):
        with (
            pytest.raises(LockedError, match=f"process {os.getpid()} on"),
            locked(tmp_path / "new"),
        ):
            pass
        clear(tmp_path / "new")
        assert [file.name for file in (tmp_path / "new").iterdir()] == [".lock"]
    with locked(tmp_path / "new"):
        pass


def elsewhere(folder):
    """Writes the lock of a process on another host."""
    file = folder / ".lock"
    file.write_text(json.dumps({"host": "far", "process": 7, "since": "noon"}))
    os.utime(file, (0, 0))
    return file


def test_a_holder_on_another_host_lives_by_its_signs_of_life(tmp_path):
    file = elsewhere(tmp_path)
    sign = threading.Timer(0.05, os.utime, [file])
    sign.start()
    with (
        pytest.raises(LockedError, match="is in use by process 7 on far, since noon"),
        locked(tmp_path, beat=1.0),
    ):
        pass
    sign.join()


def test_a_holder_on_another_host_without_signs_of_life_is_gone(tmp_path):
    file = elsewhere(tmp_path)
    with locked(tmp_path, beat=0.02):
        assert json.loads(file.read_text())["process"] == os.getpid()
        first = file.stat().st_mtime_ns
        time.sleep(0.2)
        assert file.stat().st_mtime_ns > first


@pytest.mark.parametrize("content", ["", "[]", "{", "null"])
def test_a_lock_of_any_content_is_taken_if_nobody_holds_it(tmp_path, content):
    Path(tmp_path, ".lock").write_text(content)
    with locked(tmp_path):
        pass
