# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Several Kamailios with one Redis. Each keeps registrations of its own in
memory, so only one of them knows a client; the queue is everybody's."""

import re
import signal
import threading
import time

import pytest

from harness import wait_until

EVENTS = """
event_route[cpm_pf:delivered] {
    xlog("L_NOTICE", "EVENT delivered $cpm(id) $cpm(code)\\n");
}
event_route[cpm_pf:expired] {
    xlog("L_NOTICE", "EVENT expired $cpm(id) $cpm(why)\\n");
}
request_route {"""

# Its delivery worker stays where it tells of an expired message, which it has
# then taken and not yet settled.
STUCK = """
loadmodule "cfgutils.so"
event_route[cpm_pf:expired] {
    xlog("L_NOTICE", "EVENT expired $cpm(id) $cpm(why)\\n");
    sleep("60");
}
request_route {"""


@pytest.fixture
def nodes(new_stack):
    """Makes Kamailios with one Redis; the first has it."""

    made = []

    def nodes(count, settings=None, events=None):
        for i in range(count):
            text = (events or {}).get(i, EVENTS)
            stack = new_stack(settings, redis=i == 0,
                              cfg_edit=("request_route {", text))
            if made:
                stack.redis.port = made[0].redis.port
            made.append(stack.start())
        return made

    yield nodes
    # the Redis of the first is in use as long as another one runs
    for stack in reversed(made):
        stack.close()


def events(stacks, kind):
    """What all nodes together have told, in no order."""
    return [e for stack in stacks for e in re.findall(
        r"EVENT %s (.*)" % kind, stack.kamailio.log())]


def send(stack, body=b"x", to="bob", headers=()):
    return stack.ua("alice").message("sip:%s@example.org" % to, body,
                                     headers=list(headers))


def queue_many(stacks, count, to="bob"):
    """Messages b"0", b"1"... over the nodes in turn."""
    senders = [stack.ua("alice") for stack in stacks]
    bodies = [b"%d" % i for i in range(count)]
    for i, body in enumerate(bodies):
        response = senders[i % len(senders)].message(
            "sip:%s@example.org" % to, body)
        assert response.code == 202
    return bodies


def freeze(stack):
    stack.kamailio.signal_group(signal.SIGSTOP)


def thaw(stack):
    stack.kamailio.signal_group(signal.SIGCONT)


def kill(stack):
    """The whole node at once, as when its machine dies."""
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()


def wake_time(stack, user):
    """When the queue of a user is to be looked at next, in ms, or None."""
    aor = "sip:%s@example.org" % user
    for shard in range(64):
        raw = stack.redis.command("ZSCORE", "cpm:{%d}:wake" % shard, aor)
        if raw.startswith(b"$") and not raw.startswith(b"$-1"):
            return float(raw.split(b"\r\n")[1])
    return None


def test_what_any_node_has_queued_comes_by_the_node_that_has_the_client(
        nodes):
    a, b, c = stacks = nodes(3)
    bodies = queue_many([a, c], 20)
    for stack in stacks:
        assert stack.queue("bob")["messages"] == 20
    bob = b.ua("bob")
    bob.register()
    bob.wait_messages(20)
    for stack in stacks:
        stack.wait_empty("bob")
    assert bob.bodies == bodies
    assert [s.metric("delivered_message") for s in stacks] == [0, 20, 0]
    # what a node queues that does not know of the client comes with the
    # client's next refresh
    assert [send(stack, b"later").code for stack in (a, c)] == [202, 202]
    bob.register()
    bob.wait_messages(22)
    a.wait_empty("bob")
    assert bob.bodies == bodies + [b"later", b"later"]


def test_two_nodes_with_the_same_client_deliver_each_message_once_in_order(
        nodes):
    stacks = nodes(2)
    bodies = queue_many(stacks, 50)

    def late(msg):
        time.sleep(0.05)
        return 200

    bobs = [stack.ua("bob", answer=late) for stack in stacks]
    together = threading.Barrier(2)

    def register(bob):
        together.wait(5)
        bob.register()

    threads = [threading.Thread(target=register, args=(bob,)) for bob in bobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    stacks[0].wait_empty("bob", 20)
    arrived = sorted((m for bob in bobs for m in bob.messages),
                     key=lambda m: m.at)
    assert [m.body for m in arrived] == bodies
    assert sorted(events(stacks, "delivered")) == sorted(
        set(events(stacks, "delivered")))
    assert len(events(stacks, "delivered")) == 50


def test_the_rest_of_a_delivery_whose_node_died_comes_by_another_node(nodes):
    a, b = nodes(2, {"lease_time": 2})
    bodies = queue_many([a, b], 10)

    bob = a.ua("bob", answer=None)
    bob.answers = [200] * 4
    bob.register()
    bob.wait_messages(5)
    assert bob.bodies == bodies[:5]
    kill(a)
    assert [i["state"] for i in b.items("bob")] == ["leased"] + ["queued"] * 5
    bob.answer = 200
    bob.proxy = (bob.proxy[0], b.sip_port)
    bob.register()
    # the lock of the dead node is respected while its lease lasts
    bob.wait_messages(11, 20)
    b.wait_empty("bob")
    # the one that was under way may have been taken: it comes once more, and
    # the client can tell that it is the same
    assert bob.bodies == bodies[:5] + bodies[4:]
    assert bob.messages[4].call_id == bob.messages[5].call_id
    assert len({m.call_id for m in bob.messages}) == 10


def test_a_retry_is_made_by_the_node_that_has_the_client_whoever_looks_first(
        nodes):
    a, b = nodes(2, {"retry_intervals": "1"})
    assert send(a).code == 202
    bob = b.ua("bob")
    bob.answers = [486]
    bob.register()
    bob.wait_messages(1)
    # the attempt is over when the next one is planned, and not the end of its
    # lease of 60 s
    due = wait_until(lambda: wake_time(a, "bob") < time.time() * 1000 + 5000
                     and wake_time(a, "bob"), 5)
    # the other node looks first: this one cannot, when the time comes
    freeze(b)
    try:
        wait_until(lambda: wake_time(a, "bob") not in (None, due), 10,
                   "the other node has looked at the queue")
    finally:
        thaw(b)
    # far sooner than the 30 s of a claim or the hour of a check
    bob.wait_messages(2, 20)
    a.wait_empty("bob")
    assert b.metric("delivered_message") == 1
    assert a.metric("delivered_message") == 0


def test_an_expired_message_is_told_of_by_one_of_the_nodes(nodes):
    stacks = nodes(3)
    users = ["user%d" % i for i in range(12)]
    senders = [stack.ua("alice") for stack in stacks]
    for i, user in enumerate(users):
        assert senders[i % 3].message(
            "sip:%s@example.org" % user, b"x",
            headers=[("Expires", "1")]).code == 202
    ids = sorted(stacks[0].items(user)[0]["id"] for user in users)
    wait_until(lambda: len(events(stacks, "expired")) >= 12, 15)
    wait_until(lambda: sum(s.metric("expired") for s in stacks) == 12, 5)
    for user in users:
        assert stacks[0].queue(user) is None
    assert sorted(events(stacks, "expired")) == [i + " expired" for i in ids]
    # nothing is left that another look of somebody's could tell again
    assert stacks[0].redis.command("KEYS", "*expired*") == b"*0\r\n"


def test_what_a_dead_node_had_taken_to_tell_is_told_by_another(nodes):
    a, b = nodes(2, events={0: STUCK})
    freeze(b)
    try:
        assert send(a, headers=[("Expires", "1")]).code == 202
        wait_until(lambda: events([a], "expired"), 15)
        kill(a)
    finally:
        thaw(b)
    told = events([a], "expired")
    assert len(told) == 1
    # what it had taken is its own for so long; only the clock is helped here
    (key,) = [k for k in (
        "cpm:{%d}:sum" % shard for shard in range(64))
        if b.redis.command("HEXISTS", k, "ru") == b":1\r\n"]
    until = int(b.redis.command("HGET", key, "ru").split(b"\r\n")[1])
    now = time.time() * 1000
    assert now < until <= now + 30000
    looks = b.redis.round_trips()
    wait_until(lambda: b.redis.round_trips() > looks, 5)
    assert events([b], "expired") == []
    b.redis.command("HSET", key, "ru", int(now))
    wait_until(lambda: b.metric("expired") == 1, 10)
    assert events([b], "expired") == told
