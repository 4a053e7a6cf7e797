"""How long tests take: recorded by each run, reported, and used to start long groups first.

A run records the seconds of its tests in build/tests/durations.json. tests/durations.json, which is
committed, has the seconds of groups of tests for a fresh clone:

    python -m tests.durations report     # the slowest tests of earlier runs
    python -m tests.durations store      # the seconds of groups, for the repository

A test of the fast lane that takes more than `MOST_SECONDS` of processor time fails the run. That
time includes the processes that a test starts and waits for, and no other work of the machine.
"""

import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "build/tests/durations.json"
STORED = Path(__file__).with_suffix(".json")
MOST_SECONDS = 20
# Tests of the fast lane that may take longer, each with the reason.
SLOW = {
    "tests/scripts/test_many_hosts.py::"
    "test_two_processes_train_as_one_and_host_0_speaks_for_both": (
        "three processes compile: a run alone and a run of two hosts"
    ),
    "tests/scripts/test_train.py::test_two_devices_hard_negatives_bfloat16_and_workers": (
        "a process with workers that load the data compiles for two devices"
    ),
}


def recorded() -> dict[str, dict]:
    """Returns the seconds, processor seconds, group and lane of each test of earlier runs."""
    return json.loads(RECORDED.read_text()) if RECORDED.exists() else {}


def of_recorded_groups() -> Counter[str]:
    """Returns the seconds of the recorded tests of each group."""
    total = Counter()
    for test in recorded().values():
        total[test["group"]] += test["seconds"]
    return total


def of_groups() -> Counter[str]:
    """Returns the seconds of each group: as recorded or, if longer, as stored.

    A run of some tests records less than the group takes.
    """
    return of_recorded_groups() | Counter(json.loads(STORED.read_text()))


def processor_seconds() -> float:
    """Returns the processor time of this process and of the ended ones that it has started."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(x.ru_utime + x.ru_stime for x in usage)


BEGIN = pytest.StashKey[float]()


class Durations:
    """Sums setup, call and teardown of each test; the controller of a run writes the file."""

    def __init__(self, exhaustive: bool):
        self.exhaustive = exhaustive
        self.tests: dict[str, dict] = {}
        self.setup_seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item):
        item.stash[BEGIN] = processor_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item):
        result = yield
        used = round(processor_seconds() - item.stash[BEGIN], 3)
        item.user_properties.append(("processor_seconds", used))
        return result

    def pytest_runtest_logreport(self, report):
        properties = dict(report.user_properties)
        group = properties.get("group")
        if group is None:  # of a worker that crashed
            return
        lane = "exhaustive" if "exhaustive" in report.keywords else "fast"
        name = report.nodeid.removesuffix(f"@{group}")  # which xdist appends
        if report.when == "setup":
            self.setup_seconds[name] = report.duration
        elif report.when == "call":
            seconds = self.setup_seconds[name] + report.duration
            self.tests[name] = {"seconds": seconds, "group": group, "lane": lane}
        elif name in self.tests:  # not skipped
            test = self.tests[name]
            test["seconds"] = round(test["seconds"] + report.duration, 3)
            test["processor_seconds"] = properties["processor_seconds"]

    def too_slow(self) -> dict[str, float]:
        """Returns the processor time of tests that take too long for the fast lane."""
        if self.exhaustive:
            return {}
        seconds = {name: test.get("processor_seconds", 0) for name, test in self.tests.items()}
        return {name: x for name, x in seconds.items() if x > MOST_SECONDS and name not in SLOW}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workerinput") or not self.tests:
            return
        RECORDED.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({**recorded(), **self.tests}, indent=0, sort_keys=True)
        partial = RECORDED.with_suffix(".partial")
        partial.write_text(content + "\n")
        partial.replace(RECORDED)
        if self.too_slow() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for name, seconds in self.too_slow().items():
            terminalreporter.write_line(
                f"{name} took {seconds:.0f} s of processor time: make it faster, mark it"
                " exhaustive beside a faster one, or list it in SLOW of tests/durations.py"
            )


def report(n: int = 30) -> None:
    """Prints the slowest tests."""
    tests = sorted(recorded().items(), key=lambda item: -item[1]["seconds"])
    if not tests:
        sys.exit(f"error: {RECORDED} does not exist; run sh scripts/test.sh first")
    print(f"{'seconds':>8}  lane        test")
    for name, test in tests[:n]:
        print(f"{test['seconds']:8.1f}  {test['lane']:10}  {name}")


def store() -> None:
    """Writes the recorded seconds of groups that take a second or more into the repository."""
    seconds = {group: round(x) for group, x in sorted(of_recorded_groups().items()) if x >= 1}
    STORED.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    try:
        {"report": report, "store": store}[sys.argv[1]]()
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as in `report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
