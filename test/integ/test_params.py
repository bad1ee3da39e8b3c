# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A wrong parameter stops Kamailio at its start, and the log names it."""

import subprocess

import pytest

from harness import Program


def outcome(stack, *more):
    """Exit status (None: it did not end) and log of a start."""
    program = Program("start", stack.argv() + list(more), stack.directory)
    try:
        return program.process.wait(5), program.log()
    except subprocess.TimeoutExpired:
        return None, program.log()
    finally:
        program.kill()
        program.expect_none_left()


WRONG = [
    ("redis", "addr=127.0.0.1;port=99999999"),
    ("redis", "nonsense"),
    ("redis_connect_timeout_ms", 0),
    ("redis_cmd_timeout_ms", -1),
    ("key_prefix", ""),
    ("key_prefix", "a{b}"),
    ("domain", "sip:example.org"),
    ("queue_max_messages", -1),
    ("queue_max_bytes", -1),
    ("message_max_bytes", 0),
    ("default_expires", 0),
    ("max_expires", 1),
    ("lease_time", 0),
    ("retry_intervals", "5,x"),
    ("retry_intervals", ""),
    ("max_attempts", 0),
    ("delivery_workers", 0),
    ("register_trigger", 2),
    ("queued_code", 486),
    ("overflow", "drop"),
    ("queue_max_per_sender", -1),
    ("redis_wait_replicas", 17),
    ("msrp_listen", "localhost:2855"),
    ("msrp_listen", "0.0.0.0:2855"),
    ("msrp_listen", "tls:127.0.0.1:2856"),
    ("msrp_advertise", "2001:db8::1"),
    ("session_idle_time", 0),
    ("notify_event", "presence"),
    ("notify_event", ""),
    ("notify_unsolicited", 2),
    ("notify_delay_ms", -1),
    ("notify_max_bytes", 100),
    ("admin_listen", "127.0.0.1"),
    ("admin_listen", "0.0.0.0:8060"),
    ("admin_token_file", "/nonexistent/tokens"),
    ("worker", "/nonexistent/cpm_pf_worker"),
]


@pytest.mark.parametrize("name,value", WRONG,
                         ids=["%s=%s" % w for w in WRONG])
def test_an_invalid_value_stops_kamailio(new_stack, name, value):
    stack = new_stack({name: value}, redis=False)
    if name in ("redis", "admin_listen", "domain"):
        # the shipped configuration gives its own
        stack.defines[{"redis": "REDIS", "admin_listen": "ADMIN",
                       "domain": "SIP_DOMAIN"}[name]] = '"%s"' % value
        del stack.settings[name]
    status, log = outcome(stack)
    assert status, log[-2000:]
    assert [line for line in log.split("\n")
            if "ERROR: cpm_pf" in line and name in line], log[-2000:]


def test_kamailio_says_what_it_started_with_and_is_silent_otherwise(
        new_stack):
    stack = new_stack().start()
    text = stack.kamailio.log()
    assert "cpm_pf" in text
    stack.check_log()


def test_a_configuration_check_needs_no_redis(new_stack):
    stack = new_stack(redis=False)
    status, log = outcome(stack, "-c")
    assert status == 0, log[-2000:]
