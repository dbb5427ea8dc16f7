"""Signals that end a process: raised as Ctrl-C, and delayed where a step must be whole."""

from __future__ import annotations

import signal
import threading

import pytest

from xaikit.foundation.interrupts import stoppable, uninterrupted

ENDING = [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_ends_processes_stops_as_ctrl_c_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", ENDING)
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable(), uninterrupted():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_a_signal_waits_for_the_block(number: signal.Signals) -> None:
    steps = []

    def interrupted() -> None:
        with stoppable(), uninterrupted():
            signal.raise_signal(number)
            steps.append("inside")
        steps.append("after")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_leave_signals_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)]
    seen: list[object] = []

    def work() -> None:
        with stoppable(), uninterrupted():
            seen.extend(signal.getsignal(number) for number in (signal.SIGINT, *ENDING))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
