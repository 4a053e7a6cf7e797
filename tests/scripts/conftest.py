"""Restores the signal handlers that scripts replace in this process."""

import signal

import pytest


@pytest.fixture(autouse=True)
def signals_restored():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
