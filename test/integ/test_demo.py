# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/stack.sh, as make run and make demo start it."""

import os
import signal
import socket
import subprocess

from harness import (
    HOST, MARK, TOP, MODULE, Program, Failure, free_port, marked, wait_until)

SCRIPT = os.path.join(TOP, "tools", "stack.sh")


class Demo(Program):
    def __init__(self, mode, directory, **ports):
        self.ports = {n: free_port() for n in (
            "SIP_PORT", "ADMIN_PORT", "REDIS_PORT", "MSRP_PORT")}
        self.ports.update(ports)
        self.run_dir = ports.pop("RUN_DIR", os.path.join(directory, "run"))
        settings = ["%s=%s" % i for i in self.ports.items()]
        super().__init__(mode, ["env", "RUN_DIR=" + self.run_dir] + settings
                         + [SCRIPT, mode], directory)


def test_the_demonstration_succeeds_and_leaves_nothing_running(tmp_path):
    demo = Demo("demo", str(tmp_path))
    assert demo.process.wait(60) == 0, demo.log()
    story = demo.log()
    for words in ("202 Accepted", "bob registers", "byte for byte",
                  '"state": "queued"', "404"):
        assert words in story, story
    demo.expect_none_left(0.5)
    # and it can be played again, with the data of the first time
    again = Demo("demo", str(tmp_path))
    assert again.process.wait(60) == 0, again.log()


def test_two_stacks_run_side_by_side_and_stop_at_ctrl_c(tmp_path):
    stacks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        stacks.append(Demo("run", str(tmp_path / name)))
    for stack in stacks:
        stack.wait_log("Ctrl-C stops everything", 60)
    for stack in stacks:
        stack.signal(signal.SIGINT)
    for stack in stacks:
        assert stack.process.wait(20) == 0, stack.log()
        stack.expect_none_left(0.5)


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as s:
        s.bind((HOST, 0))
        s.listen()
        port = s.getsockname()[1]
        demo = Demo("demo", str(tmp_path), ADMIN_PORT=port)
        assert demo.process.wait(20) != 0
    assert "ADMIN_PORT" in demo.log() and str(port) in demo.log()
    demo.expect_none_left(0.5)


def test_a_long_directory_name_is_no_obstacle(tmp_path):
    directory = os.path.join(str(tmp_path), "d" * 100, "e" * 60)
    os.makedirs(directory)
    demo = Demo("demo", directory)
    assert demo.process.wait(60) == 0, demo.log()


def test_a_demonstration_that_is_terminated_cleans_up(tmp_path):
    demo = Demo("demo", str(tmp_path))
    demo.wait_log("up: SIP", 30)
    demo.signal(signal.SIGTERM)
    assert demo.process.wait(30) != 0
    demo.expect_none_left(0.5)


def test_nothing_is_written_outside_the_directory(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before = set(os.listdir(TOP)) | set(os.listdir(os.path.dirname(MODULE)))
    run = str(tmp_path / "run")
    env = dict(os.environ, RUN_DIR=run, HOME=str(home), TMPDIR=str(home),
               SIP_PORT=str(free_port()), ADMIN_PORT=str(free_port()),
               REDIS_PORT=str(free_port()))
    env[MARK] = "outside"
    done = subprocess.run([SCRIPT, "demo"], env=env, capture_output=True,
                          text=True, timeout=60, cwd=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.listdir(home) == []
    after = set(os.listdir(TOP)) | set(os.listdir(os.path.dirname(MODULE)))
    assert after == before
    try:
        wait_until(lambda: not marked("outside"), 1)
    except Failure:
        raise AssertionError("left: %s" % marked("outside"))
