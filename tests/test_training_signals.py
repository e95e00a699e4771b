"""Signals: training notes the first one, other work ends by it, and a second one does what it does without us."""

from __future__ import annotations

import contextlib
import signal
import threading

import pytest

from labelembed.lab.training.device import SIGNALS, Stopped, stop_after_step, stop_at_once


@pytest.fixture(autouse=True)
def heard():
    """Hears the signals that nobody else answers, also those that were ignored where the tests were started."""
    numbers = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_in_training_is_noted_and_the_second_does_what_it_did_before(number, heard):
    before = handlers()
    with contextlib.suppress(KeyError), stop_after_step() as received:
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)  # a closed terminal sends two, the end of a session one after SIGTERM
        assert (received.number, heard) == (number, [])
        signal.raise_signal(signal.SIGTERM)
        assert (received.number, heard) == (number, [signal.SIGTERM])
        raise KeyError  # as training leaves once it has saved
    assert handlers() == before
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_elsewhere_raises_and_the_second_does_what_it_did_before(number, heard):
    def work():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT]

    before = handlers()
    with pytest.raises(Stopped) as stopped, stop_at_once():
        work()
    assert (stopped.value.signal_number, stopped.value.code) == (number, 128 + number)
    assert not isinstance(stopped.value, Exception)  # which libraries catch
    assert handlers() == before


def test_what_is_ignored_and_what_another_thread_runs_is_left_alone(heard):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` has it
    with stop_at_once(), stop_after_step() as received:
        signal.raise_signal(signal.SIGHUP)
        assert (received.number, heard) == (None, [])
    before, found = handlers(), []

    def enter():
        with stop_at_once(), stop_after_step():
            found.append(handlers())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]


@stop_at_once()
def _library():
    try:
        signal.raise_signal(signal.SIGTERM)
    except SystemExit as stopped:  # as one in another language does
        raise ValueError("no schema") from stopped


def test_an_error_that_a_signal_caused_is_the_stop():
    with pytest.raises(Stopped):
        _library()
