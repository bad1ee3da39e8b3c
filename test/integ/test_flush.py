# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A flush that an operator asks for, over HTTP or RPC, on whichever node."""

import http.client
import time

import pytest

from db import tag
from harness import DOMAIN, HOST, wait_until
import test_nodes
import test_notify
from test_nodes import send, wake_time
from test_notify import FETCHES, Summary, notified, put, settle, teller

nodes, own_world = test_nodes.nodes, test_notify.own_world  # fixtures

SLOW = {"retry_intervals": "3600"}


def by_http(stack, name, mode):
    conn = http.client.HTTPConnection(HOST, stack.admin_port, timeout=5)
    conn.request("POST", stack.queue_path(name, "/flush"),
                 '{"mode":"%s"}' % mode, {"Content-Type": "application/json"})
    response = conn.getresponse()
    response.read()
    conn.close()
    assert response.status == 202


def by_rpc(stack, name, mode):
    out = stack.rpc("cpm_pf.flush", "sip:%s@%s" % (name, DOMAIN), mode)
    assert "flushed: sip:%s@%s" % (name, DOMAIN) in out


WAYS = pytest.mark.parametrize("flush", [by_http, by_rpc])


def waits(stack, name="bob"):
    """The one message that was tried, and waits for an hour."""
    item, = stack.items(name)
    return (item["state"] == "queued" and item["attempts"] > 0
            and item["last_error"] is not None)


def over(stack, name="bob"):
    """The flush has ended: the next look is planned for later."""
    at = wake_time(stack, name)
    return at is not None and at > time.time() * 1000 + 10000


@WAYS
def test_what_waits_comes_at_once_and_once(new_stack, flush):
    stack = new_stack(SLOW).start()
    assert send(stack, b"first").code == 202
    bob = stack.ua("bob", answer=486)
    bob.register()
    bob.wait_messages(1)
    wait_until(lambda: waits(stack))
    wait_until(lambda: over(stack), 10)
    # refused again: that was it
    flush(stack, "bob", "auto")
    bob.wait_messages(2)
    wait_until(lambda: over(stack), 10)
    assert len(bob.messages) == 2
    assert stack.items("bob")[0]["attempts"] == 2
    bob.answer = 200
    flush(stack, "bob", "push")
    bob.wait_messages(3)
    stack.wait_empty("bob")
    assert bob.bodies == [b"first"] * 3


@WAYS
@pytest.mark.parametrize("asked", [0, 1, 2])
def test_it_reaches_the_node_that_has_the_client(nodes, flush, asked):
    stacks = nodes(3, SLOW)
    a, b, c = stacks
    assert send(b, b"first").code == 202
    bob = b.ua("bob", answer=486)
    bob.register()
    bob.wait_messages(1)
    # one that was tried, and one of which the node with the client is not told
    wait_until(lambda: waits(a))
    wait_until(lambda: over(a), 10)
    assert send(a, b"second").code == 202
    assert bob.bodies == [b"first"]
    bob.answer = 200
    flush(stacks[asked], "bob", "auto")
    bob.wait_messages(3, 10)
    a.wait_empty("bob")
    assert bob.bodies == [b"first", b"first", b"second"]


@WAYS
def test_modes(own_world, user, flush):
    world = own_world()
    stack = world.stack
    bob = teller(world, user())
    id_ = put(world, bob)
    client = world.client(bob, ";" + tag("msg"))
    assert Summary(notified(client)[0]).ids == [id_]
    wait_until(lambda: over(stack, bob), 10)
    # told once more, though it knows
    flush(stack, bob, "notify")
    wait_until(lambda: over(stack, bob), 10)
    settle(world, user, client)
    assert [m.method for m in client.messages] == ["NOTIFY"] * 2
    # by preference there is nothing new to tell, and nothing is brought
    flush(stack, bob, "auto")
    wait_until(lambda: over(stack, bob), 10)
    settle(world, user, client)
    assert [m.method for m in client.messages] == ["NOTIFY"] * 2
    flush(stack, bob, "push")
    client.wait(lambda: "MESSAGE" in [m.method for m in client.messages], 10,
                "the message")
    stack.wait_empty(bob)


@WAYS
def test_a_user_of_mode_push_is_told(own_world, user, flush):
    world = own_world()
    bob = world.user(user())
    client = world.client(bob, FETCHES)  # takes no pager mode: it waits
    id_ = put(world, bob)
    flush(world.stack, bob, "notify")
    assert Summary(notified(client)[0]).ids == [id_]
    wait_until(lambda: over(world.stack, bob), 10)
    assert [m.method for m in client.messages] == ["NOTIFY"]
    assert len(world.queued(bob)) == 1
