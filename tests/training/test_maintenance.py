"""Notices of a machine's end, from a metadata server on localhost: heard, obeyed once, and nothing anywhere else."""

import os
import signal
import socket
import threading
import time

import pytest
from reference.interruptions import after
from reference.metadata_server import MetadataServer
from reference.six_updates import same_bits, status_of, text_of, train, weights

from tf_hugebatch.training import maintenance
from tf_hugebatch.training.maintenance import MaintenanceNotices, metadata_server
from tf_hugebatch.training.stop_signal import StopSignal


@pytest.fixture(autouse=True)
def of_no_machine(monkeypatch):
    """Whatever machine the tests run on."""
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setattr(maintenance, "_PRODUCT_NAME", maintenance.pathlib.Path(os.devnull))


def watches():
    return [thread for thread in threading.enumerate() if thread.name.startswith("watch ")]


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("name, value", [("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"), ("preempted", "TRUE")])
def test_a_notice_that_comes_is_a_sigterm_with_its_own_reason(name, value):
    stop, said = StopSignal(), []
    with MetadataServer() as server, MaintenanceNotices(stop, server.address, said.append):
        server.wait_for_questions(2)
        assert stop.received is None and said == []
        server.change(name, value)
        wait_for(lambda: said)
    assert stop.received == signal.SIGTERM and f"{name}={value}" in stop.reason and stop.reason in said[0]
    assert watches() == []


def test_what_changes_nothing_and_what_stood_before_are_not_obeyed():
    stop, said = StopSignal(), []
    with MetadataServer(preempted="TRUE") as server, MaintenanceNotices(stop, server.address, said.append):
        server.wait_for_questions(2)
        server.change("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE")
        server.wait_for_questions(3)
        server.change("maintenance-event", "NONE")
        server.wait_for_questions(4)
        assert stop.received is None
        [told] = said
        assert "preempted=TRUE" in told and "before this run began" in told
        # Taken back and given again, it is a new one.
        server.change("preempted", "FALSE")
        server.wait_for_questions(5)
        server.change("preempted", "TRUE")
        wait_for(lambda: stop.received)


def test_a_server_that_fails_is_asked_again_and_complained_of_once():
    stop, said = StopSignal(), []
    with MetadataServer() as server, MaintenanceNotices(stop, server.address, said.append, pause=0.01):
        server.wait_for_questions(2)
        server.strange += [503] * 6  # as Google's answers while it is itself maintained
        server.change("maintenance-event", "NONE")
        server.change("preempted", "FALSE")
        wait_for(lambda: not server.strange)
        server.change("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
        wait_for(lambda: stop.received)
    complaints = [text for text in said if "503" in text]
    assert 1 <= len(complaints) <= 2 and all("may be missed" in text and "SIGTERM" in text for text in complaints)


def test_a_server_that_is_not_there_or_not_googles_stops_nothing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
        for server in (closed, "127.0.0.1:no-port"):
            stop, said = StopSignal(), []
            with MaintenanceNotices(stop, server, said.append, pause=0.01):
                wait_for(lambda: len(said) == 2)
                time.sleep(0.05)
            assert len(said) == 2 and stop.received is None and watches() == []


def test_leaving_does_not_wait_for_the_answer():
    with MetadataServer() as server:
        with MaintenanceNotices(StopSignal(), server.address):
            server.wait_for_questions(2)
            started = time.monotonic()
        assert time.monotonic() - started < 1 and watches() == []


def test_leaving_ends_a_watch_that_is_just_about_to_connect(monkeypatch):
    connect = maintenance.http.client.HTTPConnection.connect
    begun, left, made = threading.Event(), threading.Event(), []

    def slow(self):
        made.append(self)
        if len(made) > 2:  # each watch's first question is answered at once; the next is held
            begun.set()
            assert left.wait(20)
        connect(self)

    with MetadataServer() as server:
        monkeypatch.setattr(maintenance.http.client.HTTPConnection, "connect", slow)
        with MaintenanceNotices(StopSignal(), server.address) as notices:
            assert begun.wait(20)
            monkeypatch.setattr(maintenance._Watch, "join", lambda self, seconds=None: None)
        monkeypatch.undo()
        left.set()
        wait_for(lambda: not any(watch.is_alive() for watch in notices._watches))


@pytest.mark.parametrize("firmware, environment, server", [
    (None, None, None), ("KVM\n", None, None), ("Google Compute Engine\n", None, "metadata.google.internal"),
    (None, "127.0.0.1:80", "127.0.0.1:80"),
])
def test_only_a_machine_of_googles_is_asked(tmp_path, monkeypatch, firmware, environment, server):
    if firmware:
        (tmp_path / "product_name").write_text(firmware)
    monkeypatch.setattr(maintenance, "_PRODUCT_NAME", tmp_path / "product_name")
    if environment:
        monkeypatch.setenv("GCE_METADATA_HOST", environment)
    assert metadata_server() == server


def test_elsewhere_nothing_is_started():
    with MaintenanceNotices(StopSignal(), metadata_server()):
        assert watches() == []


@pytest.mark.fault("notice that a cloud machine is taken away",
                   holds="a checkpoint at that update, exit code 143, the same bits later")
def test_a_run_saves_leaves_and_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    with MetadataServer() as server, monkeypatch.context() as patch:
        patch.setenv("GCE_METADATA_HOST", server.address)

        def come():
            server.wait_for_questions(2)
            server.change("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
            wait_for(lambda: any(frame.received for frame in stops))

        stops = []
        entered = StopSignal.__enter__
        patch.setattr(StopSignal, "__enter__", lambda self: stops.append(self) or entered(self))
        after(patch, 3, come)
        stopped = train(tmp_path / "run", steps_per_loop=1)
        assert (stopped.status, stopped.exit_code) == ("interrupted", 143)
        assert "maintenance-event=TERMINATE_ON_HOST_MAINTENANCE" in status_of(tmp_path / "run")["reason"]
        assert "goes on at update 3" in stopped.reason
        patch.undo()
        # The notice still stands where the command is given again: the run comes to its end all the same.
        monkeypatch.setenv("GCE_METADATA_HOST", server.address)
        again = train(tmp_path / "run")
    assert again.status == "done" and same_bits(weights(again), weights(whole))
    assert text_of(tmp_path / "run", "metrics.jsonl") == text_of(tmp_path / "whole", "metrics.jsonl")


def test_a_signal_that_follows_a_notice_leaves_its_reason():
    stop = StopSignal()
    stop.notice(signal.SIGTERM, "notice of the machine's end")
    with stop:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: stop.received)
    assert stop.reason == "notice of the machine's end"
