# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A user with several clients gets each message once."""

import re

import pytest

from harness import wait_until


def two(stack, bob, q_first, q_second):
    """Two clients of bob, bound in one order or the other before a message
    is there, so that both are known when it is delivered."""
    clients = [stack.ua(bob), stack.ua(bob)]
    for client, q in zip(clients, (q_first, q_second)):
        client.register(params=";q=%s" % q if q else "")
    return clients


@pytest.mark.parametrize("q_first,q_second,winner", [
    ("0.9", "0.1", 0), ("0.1", "0.9", 1), ("0.5", "1.0", 1)])
def test_the_client_with_the_higher_q_gets_the_message(
        new_stack, q_first, q_second, winner):
    stack = new_stack({"register_delay_ms": 500}).start()
    stack.ua("alice").message("sip:bob@example.org", b"x")
    clients = two(stack, "bob", q_first, q_second)
    clients[winner].wait_messages(1)
    stack.wait_empty("bob")
    assert len(clients[winner].messages) == 1
    assert clients[1 - winner].messages == []


@pytest.mark.parametrize("code", [480, 503, 486, 415])
def test_when_the_first_client_says_no_the_second_gets_it(new_stack, code):
    stack = new_stack({"register_delay_ms": 500}).start()
    stack.ua("alice").message("sip:bob@example.org", b"x")
    clients = two(stack, "bob", "0.9", "0.1")
    clients[0].answer = code
    clients[1].wait_messages(1)
    stack.wait_empty("bob")
    assert len(clients[0].messages) == 1
    assert clients[0].messages[0].call_id == clients[1].messages[0].call_id


def test_a_client_that_does_not_allow_message_is_not_bothered(
        shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    phone = shared.ua(bob)
    phone.register(headers=[("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS")])
    client = shared.ua(bob)
    client.register(headers=[("Allow", "INVITE, ACK, MESSAGE")])
    client.wait_messages(1)
    shared.wait_empty(bob)
    assert phone.messages == []


def test_a_refresh_does_not_bother_a_client_that_was_busy(new_stack):
    stack = new_stack({"retry_intervals": "600"}).start()
    stack.ua("alice").message("sip:bob@example.org", b"x")
    bob = stack.ua("bob", answer=486)
    bob.register()
    wait_until(lambda: stack.items("bob")[0]["attempts"] == 1, 5)
    bob.register()
    other = stack.ua("carol")
    stack.ua("alice").message("sip:carol@example.org", b"y")
    other.register()
    other.wait_messages(1)
    assert len(bob.messages) == 1
    # a client that went and came back gets what is there
    bob.answer = 200
    bob.register(expires=0)
    bob.register()
    bob.wait_messages(2)
    stack.wait_empty("bob")


def test_users_without_queue_cost_no_script_at_registration(new_stack):
    stack = new_stack({"register_delay_ms": 0}).start()
    alice = stack.ua("alice")
    users = ["user%d" % i for i in range(20)]
    before = stack.redis.round_trips()
    for name in users:
        stack.ua(name).register()
    # one more, who has a message: when it is delivered, the others are done
    alice.message("sip:bob@example.org", b"x")
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    stack.wait_empty("bob")
    spent = stack.redis.round_trips() - before
    # a few for bob: put, lease, settle, release, what HTTP asked; whether the
    # others have anything queued is asked for many at once
    assert spent <= 30, spent
    exists = re.search(rb"cmdstat_exists:calls=(\d+)", stack.redis.command(
        "INFO", "commandstats"))
    assert int(exists[1]) >= len(users)


def test_many_users_come_back_at_once(new_stack):
    stack = new_stack({"delivery_workers": 2}).start()
    alice = stack.ua("alice")
    users = ["user%d" % i for i in range(60)]
    for name in users:
        for i in range(3):
            assert alice.message("sip:%s@example.org" % name,
                                 b"%d" % i).code == 202
    clients = [stack.ua(name) for name in users]
    for client in clients:
        client.register()
    for client in clients:
        client.wait_messages(3, 20)
    wait_until(lambda: stack.http("/v1/queues").json["items"] == [], 10)
    for client in clients:
        assert client.bodies == [b"0", b"1", b"2"]
    assert stack.metric("delivered_message") == 180
