"""A script begins once more where huge pages have to be asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "scripts/huge_pages.py"
SCRIPT = """
import huge_pages
import os, sys
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:], sys.warnoptions)
"""


@pytest.fixture
def start(tmp_path):
    """`start(said, given, script)`: what a script prints where the system says so."""

    def started(said, given=None, folder="scripts"):
        for name in ("scripts", "elsewhere"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "script.py").write_text(SCRIPT)
        system = tmp_path / "enabled"
        system.write_text(said)
        there = "/sys/kernel/mm/transparent_hugepage/enabled"
        text = MODULE.read_text().replace(there, str(system))
        (tmp_path / "scripts/huge_pages.py").write_text(text)
        environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        environment |= {"PYTHONPATH": str(tmp_path / "scripts")}
        environment |= {"GLIBC_TUNABLES": given} if given else {}
        command = [sys.executable, "-W", "error", str(tmp_path / folder / "script.py"), "a b"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        out, _ = process.communicate(timeout=60)
        return out.removeprefix(f"{process.pid} ").strip()

    return started


@pytest.mark.parametrize(
    ("said", "given", "folder", "then"),
    [
        ("always [madvise] never", None, "scripts", "glibc.malloc.hugetlb=1"),
        ("always [madvise] never", "glibc.a=1", "scripts", "glibc.a=1:glibc.malloc.hugetlb=1"),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", "scripts", "glibc.malloc.hugetlb=0"),
        ("[always] madvise never", None, "scripts", "None"),
        ("always madvise [never]", None, "scripts", "None"),
        ("always [madvise] never", None, "elsewhere", "None"),
    ],
)
def test_a_script_asks_for_huge_pages_where_that_is_left_to_it(start, said, given, folder, then):
    assert start(said, given, folder) == f"{then} a b ['error']"
