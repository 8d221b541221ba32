"""SIGTERM and exits while a training is watched: everything gets the time to be closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from rldk.integrations.trl.ending import ProcessEnd


@pytest.fixture
def handled():
    """The signals that a handler of the user's received; it is removed after the test."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_a_handler_that_was_there_is_called_and_put_back(handled):
    """The user's own way of ending goes on, and RLDK knows of the signal."""
    end = ProcessEnd(lambda _: None, lambda: None)
    mine = signal.getsignal(signal.SIGTERM)
    end.watch()
    os.kill(os.getpid(), signal.SIGTERM)
    with end.closing():
        pass
    assert handled == [signal.SIGTERM]
    assert end.was_terminated
    assert signal.getsignal(signal.SIGTERM) is mine


@pytest.mark.usefixtures("handled")
def test_a_handler_that_came_later_is_left_alone():
    """Only RLDK's own handler is taken away."""
    end = ProcessEnd(lambda _: None, lambda: None)
    end.watch()
    later = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with end.closing():
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert later is not None


def run(program):
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_sigterm_ends_the_process_in_order():
    """The exit code is 143, and who is open is told."""
    done = run("""
        import os, signal
        from rldk.integrations.trl.ending import ProcessEnd
        ProcessEnd(lambda status: print(status), lambda: None).watch()
        os.kill(os.getpid(), signal.SIGTERM)
        print("not reached")
    """)
    assert (done.returncode, done.stdout) == (143, "KILLED\n")


def test_sigterm_while_closing_hurries_it_and_waits_for_its_end():
    """Who closes is told to be quick, leaves things in order, and then the process ends."""
    done = run("""
        import os, signal
        from rldk.integrations.trl.ending import ProcessEnd
        end = ProcessEnd(lambda status: print(status), lambda: print("hurry"))
        end.watch()
        with end.closing():
            os.kill(os.getpid(), signal.SIGTERM)
            print("closed")
        print("not reached")
    """)
    assert (done.returncode, done.stdout) == (143, "hurry\nclosed\n")


def test_a_second_sigterm_hurries_the_end_that_the_first_began():
    """The end of the run, which the first signal begins, is itself interrupted."""
    done = run("""
        import os, signal
        from rldk.integrations.trl.ending import ProcessEnd

        def close(status):
            with end.closing():
                os.kill(os.getpid(), signal.SIGTERM)
                print(status)

        end = ProcessEnd(close, lambda: print("hurry"))
        end.watch()
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert (done.returncode, done.stdout) == (143, "hurry\nKILLED\n")


def test_a_forked_child_does_not_end_its_parents_run():
    """Only the process that trains tells of the end."""
    done = run("""
        import os
        from rldk.integrations.trl.ending import ProcessEnd
        end = ProcessEnd(lambda status: print(status, flush=True), lambda: None)
        end.watch()
        if os.fork() == 0:
            raise SystemExit(0)
        os.wait()
    """)
    assert done.stdout == "FAILED\n"


def test_an_exception_is_a_failure_and_ctrl_c_is_not():
    """The status tells which."""
    for error, status in {"ValueError": "FAILED", "KeyboardInterrupt": "KILLED"}.items():
        done = run(f"""
            from rldk.integrations.trl.ending import ProcessEnd
            ProcessEnd(lambda status: print(status), lambda: None).watch()
            raise {error}
        """)
        assert done.stdout == f"{status}\n"
