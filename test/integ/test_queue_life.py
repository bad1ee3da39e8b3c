# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a queued message that is not delivered: expiry, overflow,
dead letters, and how script and operator learn of it."""

import re

import pytest

import databases
from harness import wait_until

EVENTS = """
event_route[cpm_pf:queued] {
    xlog("L_NOTICE", "EVENT queued $cpm(user) $cpm(id) $cpm(code) $cpm(why) $cpm(queue_size)\\n");
}
event_route[cpm_pf:delivered] {
    xlog("L_NOTICE", "EVENT delivered $cpm(user) $cpm(id) $cpm(code) $cpm(why)\\n");
}
event_route[cpm_pf:expired] {
    xlog("L_NOTICE", "EVENT expired $cpm(user) $cpm(id) $cpm(why)\\n");
}
event_route[cpm_pf:dead] {
    xlog("L_NOTICE", "EVENT dead $cpm(user) $cpm(id) $cpm(code) $cpm(why)\\n");
}
request_route {"""


def events(stack, kind):
    return re.findall(r"EVENT %s (.*)" % kind, stack.kamailio.log())


def bob_id(stack, user="bob"):
    return [item["id"] for item in stack.items(user)]


@pytest.fixture
def start(new_stack):
    def start(settings=None, **kw):
        return new_stack(settings, cfg_edit=("request_route {", EVENTS),
                         **kw).start()
    return start


def send(stack, body=b"x", to="bob", sender="alice", headers=(), **kw):
    return stack.ua(sender).message("sip:%s@example.org" % to, body,
                                    headers=list(headers), **kw)


def test_the_script_is_told_when_a_message_is_queued_and_delivered(start):
    stack = start()
    assert send(stack).code == 202
    (mid,) = bob_id(stack)
    assert events(stack, "queued") == [
        "sip:bob@example.org %s 202 queued 1" % mid]
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    wait_until(lambda: events(stack, "delivered"), 5)
    assert events(stack, "delivered") == [
        "sip:bob@example.org %s 200 message" % mid]


def test_an_expired_message_is_told_of_once_and_is_gone(start):
    stack = start()
    assert send(stack, headers=[("Expires", "1")]).code == 202
    assert send(stack, b"stays").code == 202
    mid, _ = bob_id(stack)
    wait_until(lambda: events(stack, "expired"), 10)
    assert events(stack, "expired") == ["sip:bob@example.org %s expired" % mid]
    assert stack.metric("expired") == 1
    assert len(stack.items("bob")) == 1
    assert stack.http("/v1/jobs").json == {"items": [], "next": None}
    assert stack.metric("jobs") == 0
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(1)
    stack.wait_empty("bob")
    assert bob.bodies == [b"stays"]


def test_who_wants_expired_messages_stored_has_a_job_that_can_be_seen(
        start, tmp_path):
    db = databases.Sqlite(str(tmp_path)).create(sample=True)
    db.sql("UPDATE cpm_user SET on_expiry = 'store' WHERE username = 'bob';")
    stack = start(**db.stack())
    assert send(stack, headers=[("Expires", "1")]).code == 202
    (mid,) = bob_id(stack)
    wait_until(lambda: stack.http("/v1/jobs").json["items"], 10)
    (job,) = stack.http("/v1/jobs").json["items"]
    assert (job["kind"], job["user"], job["id"], job["state"],
            job["attempts"], job["last_error"]) == (
                "store", "sip:bob@example.org", mid, "waiting", 0, None)
    assert stack.queue("bob") is None
    assert stack.metric("jobs") == 1
    assert stack.metric("store_jobs") == 1
    # it outlives everything
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    assert len(stack.http("/v1/jobs").json["items"]) == 1


def test_a_full_queue_refuses_or_drops_the_oldest_as_configured(start):
    stack = start({"queue_max_messages": 3, "overflow": "drop_oldest"})
    for body in (b"1", b"2", b"3", b"4", b"5"):
        assert send(stack, body).code == 202
    wait_until(lambda: len(events(stack, "expired")) == 2, 5)
    assert all(e.endswith(" overflow") for e in events(stack, "expired"))
    assert stack.metric("dropped") == 2
    assert stack.metric("expired") == 0
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(3)
    stack.wait_empty("bob")
    assert bob.bodies == [b"3", b"4", b"5"]


def test_no_sender_has_more_than_its_share_of_a_queue(start):
    stack = start({"queue_max_messages": 5, "queue_max_per_sender": 2})
    assert [send(stack, b"a").code for _ in range(3)] == [202, 202, 480]
    assert [send(stack, b"c", sender="carol").code for _ in range(3)] == [
        202, 202, 480]
    assert send(stack, b"d", sender="dave").code == 202
    assert send(stack, b"d", sender="dave").code == 480
    assert stack.metric("quota_refused") == 3
    assert stack.queue("bob")["messages"] == 5


def test_a_dead_letter_is_told_of_and_seen_among_all_users_letters(start):
    stack = start({"max_attempts": 1})
    assert send(stack).code == 202
    (mid,) = bob_id(stack)
    assert stack.http("/v1/dead").json == {"items": [], "next": None}
    bob = stack.ua("bob")
    bob.answer = 486
    bob.register()
    wait_until(lambda: events(stack, "dead"), 10)
    assert events(stack, "dead") == [
        "sip:bob@example.org %s 486 attempts-used-up" % mid]
    (letter,) = stack.http("/v1/dead").json["items"]
    assert letter["user"] == "sip:bob@example.org"
    assert (letter["id"], letter["state"], letter["last_error"]) == (
        mid, "dead", "486")
    assert stack.http("/v1/dead?cursor=nonsense").status == 400
    assert stack.http("/v1/dead?limit=0").status == 400
    assert stack.http("/v1/jobs?cursor=" + "A" * 600).status == 400


def test_dead_letters_come_in_pages(start):
    stack = start({"max_attempts": 1, "delivery_parallel": 16})
    users = ["user%d" % i for i in range(12)]
    for user in users:
        assert send(stack, to=user).code == 202
        ua = stack.ua(user)
        ua.answer = 486
        ua.register()
    wait_until(lambda: len(events(stack, "dead")) == 12, 15)
    seen, path = [], "/v1/dead?limit=5"
    while path:
        page = stack.http(path).json
        assert len(page["items"]) <= 5
        seen += [item["user"] for item in page["items"]]
        path = page["next"] and "/v1/dead?limit=5&cursor=" + page["next"]
    assert sorted(seen) == sorted("sip:%s@example.org" % u for u in users)


def test_a_redis_that_may_lose_messages_is_warned_of(new_stack):
    stack = new_stack()
    stack.expect_log(r"redis: (may-evict|no-persistence) ")
    stack.redis.start()
    stack.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    stack.redis.command("CONFIG", "SET", "appendonly", "no")
    stack.start_kamailio()
    for word in ("may-evict", "no-persistence"):
        stack.kamailio.wait_log(r"WARNING: .*redis: %s " % word)
    ready = stack.http("/readyz")
    assert ready.status == 200
    assert sorted(w["warning"] for w in ready.json["warnings"]) == [
        "may-evict", "no-persistence"]
    stack.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    (left,) = stack.http("/readyz").json["warnings"]
    assert left["warning"] == "no-persistence"


def test_a_node_that_was_killed_does_not_wait_for_its_own_leases(start):
    stack = start({"lease_time": 600})
    assert send(stack).code == 202
    bob = stack.ua("bob")
    bob.answer = None   # says nothing: the delivery is under way
    bob.register()
    bob.wait_messages(1)
    assert stack.queue("bob")["state_counts"]["leased"] == 1
    stack.kamailio.kill()
    stack.kamailio.expect_none_left()
    stack.start_kamailio()
    bob.answer = 200
    bob.register()
    stack.wait_empty("bob", 10)
    assert len({m.call_id for m in bob.messages}) == 1
