# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: `shared`, one stack for tests that only need users of their own;
`new_stack`, a stack of the test's own; `user`, a name nobody else has."""

import glob
import itertools
import os
import socket
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402

_numbers = itertools.count(1)


def pytest_sessionstart(session):
    if not os.path.exists(harness.MODULE):
        raise pytest.UsageError(
            "%s is missing; make module builds it" % harness.MODULE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Adds the ends of the logs to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when in ("call", "setup", "teardown"):
        for stack in getattr(item, "cpm_stacks", []):
            report.sections.append(("logs", stack.log_tail()))


def _remember(request, stack):
    request.node.cpm_stacks = getattr(request.node, "cpm_stacks", []) + [stack]


@pytest.fixture
def user():
    """Makes a user name that no other test uses."""
    return lambda name="bob": "%s%d" % (name, next(_numbers))


@pytest.fixture(scope="session")
def _shared_stack(tmp_path_factory):
    stack = harness.Stack(tmp_path_factory.mktemp("shared"))
    try:
        stack.start()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def shared(request, _shared_stack):
    """The stack that most tests share. Its log is checked after each."""
    stack = _shared_stack
    _remember(request, stack)
    stack.expected = []
    stack.restart_if_dead()
    yield stack
    stack.close_uas()
    stack.check_log()
    assert stack.kamailio.running, "Kamailio ended"


@pytest.fixture
def new_stack(request, tmp_path):
    """Makes stacks of the test's own; start() is up to the test."""
    stacks = []

    def make(*args, **kw):
        directory = tmp_path / ("stack%d" % len(stacks))
        directory.mkdir()
        stack = harness.Stack(directory, *args, **kw)
        stacks.append(stack)
        _remember(request, stack)
        return stack

    yield make
    problems = []
    for stack in stacks:
        try:
            stack.close()
        except harness.Failure as e:
            problems.append(str(e))
    if problems:
        pytest.fail("\n".join(problems))


@pytest.fixture
def world(request, _world):
    """A World (db.py) that a module's tests share; the module has the fixture
    _world that makes it."""
    request.node.cpm_stacks = [_world.stack]
    _world.begin()
    yield _world
    _world.end()


@pytest.fixture
def relay(tmp_path):
    """Kamailio's msrp module as a relay: its URI."""
    harness.need("kamailio")
    port = harness.free_port()
    program = harness.Program("relay", [
        "kamailio", "-f", os.path.join(harness.TOP, "test", "integ",
                                       "msrp_relay.cfg"),
        "-A", "RELAY_PORT=%d" % port, "-DD", "-E", "-w", str(tmp_path),
        "-Y", str(tmp_path), "-P", str(tmp_path / "relay.pid")],
        str(tmp_path))

    def listens():
        assert program.running, program.log()
        try:
            socket.create_connection((harness.HOST, port), 1).close()
            return True
        except OSError:
            return False
    harness.wait_until(listens, 15, "the relay listens")
    yield "msrp://%s:%d;tcp" % (harness.HOST, port)
    program.stop()


@pytest.fixture
def msrp_start(new_stack):
    """As new_stack(...).start(), with sessions; its msrp_port is theirs."""
    def start(settings=None, **kw):
        port = harness.free_port()
        kw.setdefault("defines", {})["MSRP"] = '"%s:%d"' % (
            harness.HOST, port)
        stack = new_stack(settings, **kw)
        stack.msrp_port = port
        return stack.start()
    return start


@pytest.fixture(scope="session")
def seed_program(tmp_path_factory):
    """queue_seed, built from the tree's own sources."""
    mod = os.path.join(harness.TOP, "modules", "cpm_pf")
    program = str(tmp_path_factory.mktemp("seed") / "queue_seed")
    subprocess.run(
        [os.environ.get("CC", "gcc"), "-std=c11", "-D_GNU_SOURCE", "-O1",
         "-I", mod + "/core", "-I", mod + "/io",
         os.path.join(harness.TOP, "test", "integ", "queue_seed.c")]
        + glob.glob(mod + "/core/*.c")
        # what reads XML needs libxml2, and no queue
        + [f for f in glob.glob(mod + "/io/*.c") if "io_actions" not in f and "io_reginfo" not in f]
        + ["-lhiredis", "-o", program], check=True)
    return program
