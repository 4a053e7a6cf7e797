"""Hosts meet, agree and notice a loss; here they are threads, and a lost one is a closed socket."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from jaxembed.training import HostError, Hosts, LostHostError, join_cluster, meet_hosts, meeting
from jaxembed.training.door import proof
from tests.scripts.many_hosts import free_port


@pytest.fixture
def meet():
    """`meet(3)` returns the hosts of a run, and the messages that each gets when one is lost."""
    met = []

    def meet_them(count, timeout=10.0, **options):
        address, lost = f"localhost:{free_port()}", [[] for _ in range(count)]

        def one(index):
            return meet_hosts(
                address,
                index=index,
                count=count,
                timeout=timeout,
                on_loss=lost[index].append,
                **options,
            )

        with ThreadPoolExecutor(count) as pool:
            met.extend(pool.map(one, range(count)))
        return met[-count:], lost

    yield meet_them
    for hosts in met:
        hosts.leave()


def all_at_once(function, hosts):
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(function, hosts))


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_host_needs_nobody():
    hosts = Hosts()
    assert hosts.exchange("x", {"a": 1}) == [{"a": 1}]
    hosts.agree({"code": "1"})
    assert hosts.writes
    hosts.leave()
    assert meet_hosts("nobody:1", index=0, count=1).count == 1


def test_all_get_the_values_of_all_in_order(meet):
    hosts, lost = meet(4)
    assert [h.writes for h in hosts] == [True, False, False, False]
    for step in range(3):
        values = all_at_once(lambda h, step=step: h.exchange("step", [h.index, step]), hosts)
        assert values == [[[index, step] for index in range(4)]] * 4
    assert lost == [[]] * 4


def test_all_may_leave_at_any_time_once_they_are_done(meet):
    hosts, lost = meet(3, timeout=0.6)
    hosts[0].leave()
    time.sleep(1.5)
    hosts[2].leave()
    assert lost == [[], [], []]


def test_a_difference_is_named_with_its_hosts(meet):
    hosts, _ = meet(3)

    def agree(host):
        facts = {"steps": 10, "code": "new" if host.index == 2 else "old"}
        with pytest.raises(HostError, match="host 2 has code 'new', host 0 has 'old'"):
            host.agree(facts)

    all_at_once(agree, hosts)
    all_at_once(lambda host: host.agree({"steps": 10, "path": ("a", "b")}), hosts)


def test_a_host_whose_process_ends_is_named_to_all(meet):
    hosts, lost = meet(3)
    hosts[1]._over = True  # it does not speak any more, and closes without a goodbye
    hosts[1]._peers[0].close()
    wait_until(lambda: lost[0] and lost[2])
    assert "host 1" in lost[0][0]
    assert "is gone: its process ended or was killed" in lost[0][0]
    assert lost[2] == lost[0]
    with pytest.raises(LostHostError):
        hosts[2].exchange("step", 1)


def test_the_loss_of_host_0_is_noticed_by_all(meet):
    hosts, lost = meet(3)
    hosts[0]._over = True
    for peer in hosts[0]._peers.values():
        peer.close()
    wait_until(lambda: lost[1] and lost[2])
    assert "host 0" in lost[1][0]


def test_a_silent_host_is_lost_after_the_time_out(meet):
    hosts, lost = meet(2, timeout=0.6)
    hosts[1]._over = True  # no signs of life, while its connection stays open
    wait_until(lambda: lost[0])
    assert "has given no sign of life for" in lost[0][0]


def test_a_host_that_ends_with_an_error_says_it_to_all(meet):
    hosts, lost = meet(3)
    hosts[2].leave("no space left on device")
    wait_until(lambda: lost[0] and lost[1])
    assert lost[0] == lost[1] == ["host 2 ended: no space left on device"]


def test_those_that_wait_for_a_lost_host_go_on_with_an_error(meet):
    hosts, _ = meet(3)

    def wait(host):
        if host.index == 2:
            return host.leave("broken data")
        with pytest.raises(LostHostError):
            host.exchange("step", 1)

    all_at_once(wait, hosts)


def meet_in_vain(address, count, indices, timeout=1.0):
    errors = {}

    def one(index):
        try:
            meet_hosts(address, index=index, count=count, timeout=timeout, on_loss=print)
        except (HostError, LostHostError) as error:
            errors[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in indices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return errors


def test_hosts_that_never_come_are_named_to_those_that_did():
    errors = meet_in_vain(f"localhost:{free_port()}", 4, [0, 2])
    assert {type(error) for error in errors.values()} == {LostHostError}
    assert "hosts 1, 3 of 4 did not come within 1 s" in str(errors[0])
    assert str(errors[2]) == str(errors[0])


def test_a_host_0_that_never_comes():
    address = f"localhost:{free_port()}"
    errors = meet_in_vain(address, 2, [1])
    assert f"host 0 does not answer at {address}" in str(errors[1])


def test_one_who_is_no_host_0_and_says_nothing_is_left_in_time(monkeypatch):
    monkeypatch.setattr(meeting, "LATE", 0.5)
    with socket.socket() as silent:
        silent.bind(("", 0))
        silent.listen()
        errors = meet_in_vain(f"localhost:{silent.getsockname()[1]}", 2, [1], timeout=0.5)
    assert "ended while the hosts met" in str(errors[1])


def test_two_hosts_of_one_index_are_refused():
    errors = meet_in_vain(f"localhost:{free_port()}", 3, [0, 1, 1])
    assert "were started as host 1" in str(errors[0])
    assert isinstance(errors[0], HostError)


def test_another_number_of_hosts_is_refused():
    address = f"localhost:{free_port()}"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet_in_vain, address, 2, [0], 5.0)
        second = pool.submit(meet_in_vain, address, 3, [1], 5.0)
    assert "was started with 3 hosts, host 0 with 2" in str(first.result()[0])
    assert str(second.result()[1]) == str(first.result()[0])


GREETING = {"hello": 1, "count": 2, "name": "evil", "token": "x"}
STRANGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"",
    b"[" * 100_000,
    *(
        json.dumps(said).encode() + b"\n"
        for said in (
            [1],
            {"hello": 1},
            GREETING,
            {**GREETING, "count": 3},
            {**GREETING, "hello": [1], "name": 3},
            {**GREETING, "hello": True},
            {**GREETING, "hello": 7, "token": proof("ours")},
            {**GREETING, "token": None},
            {**GREETING, "token": "\ud800"},
        )
    ),
]


def test_strangers_who_call_are_sent_away(capsys):
    address = f"localhost:{free_port()}"
    meet = partial(meet_hosts, address, count=2, timeout=10, token="ours", on_loss=print)
    with ThreadPoolExecutor(2) as pool, ExitStack() as open_lines:
        zero = pool.submit(meet, index=0)
        port = int(address.split(":")[1])
        for said in STRANGE:
            wait_until(partial(_call, port, said))
        for _ in range(10):  # they say nothing, and stay
            silent = socket.create_connection(("localhost", port), timeout=5)
            open_lines.enter_context(silent)
        begin = time.monotonic()
        one = pool.submit(meet, index=1)
        assert (zero.result().count, one.result().index) == (2, 1)
        assert time.monotonic() - begin < 3
    said = capsys.readouterr().err
    assert "dropped a stranger at 127.0.0.1: " in said
    assert len(said.splitlines()) == 5
    zero.result().leave()
    one.result().leave()


def test_a_host_of_another_run_ends_and_this_one_does_not():
    address = f"localhost:{free_port()}"
    meet = partial(meet_hosts, address, count=2, timeout=10, on_loss=print)
    with ThreadPoolExecutor(2) as pool:
        zero = pool.submit(meet, index=0, token="runs/a")
        with pytest.raises(HostError, match="host 0 is of another run: its --output differs"):
            meet(index=1, token="runs/b")
        one = pool.submit(meet, index=1, token="runs/a")
        assert zero.result().count == 2
    zero.result().leave()
    one.result().leave()


def test_a_second_process_of_an_index_that_runs_is_refused_alone(meet):
    hosts, lost = meet(2)
    port = hosts[0]._door._server.getsockname()[1]
    with pytest.raises(HostError, match=r"host 1 of this run is .*, which runs; stop it first"):
        meet_hosts(f"localhost:{port}", index=1, count=2, timeout=5)
    assert all_at_once(lambda host: host.exchange("step", host.index), hosts) == [[0, 1]] * 2
    assert lost == [[], []]


def _call(port, said):
    try:
        with socket.create_connection(("localhost", port), timeout=5) as connection:
            connection.sendall(said)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "node-0", "index": 0}, "node-0:8476; got node-0"),
        ({"address": "node-0:99999", "index": 0}, "a port from 1 to 65535"),
        ({"address": "node-0:²", "index": 1}, "a port from 1 to 65535"),
        ({"address": "node-0:1", "index": 2}, "lies between 0 and 1; got 2"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(HostError, match=message):
        meet_hosts(**options, count=2)


def test_a_cluster_needs_all_three_flags_or_none():
    with pytest.raises(HostError, match="go together"):
        join_cluster(n_hosts=2)
    assert join_cluster("localhost:2", 1, 0).count == 1
    assert join_cluster().count == 1  # this machine is in no cluster


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"cannot listen on port {port}"):
            meet_hosts(f"localhost:{port}", index=0, count=2, timeout=1)
