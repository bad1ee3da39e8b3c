# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Queued, seen, delivered: the story of a message as its people notice it."""

import datetime

from harness import wait_until

ITEM_MEMBERS = {
    "id", "state", "from", "to", "subject", "content_type", "size",
    "received", "expires", "attempts", "next_attempt", "last_error",
    "conversation_id", "contribution_id"}
QUEUE_MEMBERS = {
    "user", "messages", "bytes", "oldest", "newest", "state_counts"}


def moment(text):
    """A time as HTTP gives it: RFC 3339, UTC."""
    assert text.endswith("Z"), text
    return datetime.datetime.fromisoformat(text[:-1] + "+00:00")


def test_a_message_to_an_offline_user_is_queued_shown_and_delivered(
        shared, user):
    bob = user()
    alice = shared.ua("alice")
    response = alice.message(
        "sip:%s@example.org" % bob, b"hello", "text/plain;charset=UTF-8",
        [("Subject", "greeting"), ("Expires", "600"),
         ("Conversation-ID", "conv-1"), ("Contribution-ID", "contr-1")])
    assert (response.code, response.body) == (202, b"")
    assert response.get("contact") is None

    queue = shared.queue(bob)
    assert set(queue) == QUEUE_MEMBERS
    assert queue["user"] == "sip:%s@example.org" % bob
    assert queue["messages"] == 1
    assert queue["bytes"] >= 5
    assert queue["oldest"] == queue["newest"]
    assert queue["state_counts"]["queued"] == 1

    items = shared.items(bob)
    assert len(items) == 1
    item = items[0]
    assert set(item) == ITEM_MEMBERS
    assert item["state"] == "queued"
    assert "sip:alice@example.org" in item["from"]
    assert "sip:%s@example.org" % bob in item["to"]
    assert item["subject"] == "greeting"
    assert item["content_type"] == "text/plain;charset=UTF-8"
    assert item["size"] == 5
    assert item["attempts"] == 0
    assert not item["last_error"]
    assert item["conversation_id"] == "conv-1"
    assert item["contribution_id"] == "contr-1"
    received, expires = moment(item["received"]), moment(item["expires"])
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs((now - received).total_seconds()) < 5
    assert 595 <= (expires - received).total_seconds() <= 600
    one = shared.http(shared.queue_path(bob, "/messages/" + item["id"]))
    assert one.status == 200 and one.json == item

    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.body == b"hello"
    assert message.problems == []
    shared.wait_empty(bob)
    assert shared.http(shared.queue_path(bob)).status == 404
    assert shared.items(bob) == []
    assert len(client.messages) == 1


def test_a_message_for_a_registered_user_is_relayed_and_not_queued(
        shared, user):
    bob = user()
    client = shared.ua(bob)
    client.register()
    response = shared.ua("alice").message("sip:%s@example.org" % bob, b"hi")
    assert response.code == 200
    assert client.bodies == [b"hi"]
    assert shared.queue(bob) is None


def test_a_registered_client_that_does_not_answer_gets_it_at_its_next_register(
        shared, user):
    bob = user()
    lost = shared.ua(bob, answer=None)
    lost.register()
    response = shared.ua("alice").message("sip:%s@example.org" % bob, b"hi")
    assert response.code == 202
    assert 0.9 < response.elapsed < 5
    item = shared.items(bob)[0]
    assert item["size"] == 2
    # its battery is changed: a new port, the old binding still there
    client = shared.ua(bob)
    client.register(params=";q=1.0")
    assert client.wait_messages(1, 10)[0].body == b"hi"
    shared.wait_empty(bob)


def test_a_registered_client_that_says_480_gets_the_message_later(
        shared, user):
    bob = user()
    client = shared.ua(bob)
    client.answers = [480]
    client.register()
    response = shared.ua("alice").message("sip:%s@example.org" % bob, b"hi")
    assert response.code == 202
    wait_until(lambda: [m.answered for m in client.messages] == [480, 200],
               10, "the queued message is delivered")
    assert client.bodies == [b"hi", b"hi"]
    shared.wait_empty(bob)


def test_a_registered_client_that_declines_has_the_last_word(shared, user):
    bob = user()
    client = shared.ua(bob, answer=603)
    client.register()
    response = shared.ua("alice").message("sip:%s@example.org" % bob, b"hi")
    assert response.code == 603
    assert shared.queue(bob) is None


def test_three_messages_arrive_in_order_one_at_a_time(shared, user):
    bob = user()
    alice, carol = shared.ua("alice"), shared.ua("carol")
    for i, sender in enumerate([alice, carol, alice]):
        assert sender.message("sip:%s@example.org" % bob,
                              b"message %d" % i).code == 202
    assert shared.queue(bob)["messages"] == 3
    items = shared.items(bob)
    assert [i["received"] for i in items] == sorted(
        i["received"] for i in items)

    client = shared.ua(bob, answer=None)
    client.register()
    for n in (1, 2, 3):
        message = client.wait_messages(n)[n - 1]
        # a retransmission shows that time has passed, and no other came
        client.wait(lambda m=message: m.repeats >= 1, 5, "a retransmission")
        assert len(client.messages) == n
        states = [i["state"] for i in shared.items(bob)]
        assert states == ["leased"] + ["queued"] * (3 - n)
        client.reply(message, 200)
    shared.wait_empty(bob)
    assert client.bodies == [b"message 0", b"message 1", b"message 2"]
    assert len({m.call_id for m in client.messages}) == 3
    assert all(m.problems == [] for m in client.messages)


def test_a_busy_client_keeps_its_messages_and_gets_them_later(shared, user):
    bob = user()
    alice = shared.ua("alice")
    for text in (b"one", b"two"):
        assert alice.message("sip:%s@example.org" % bob, text).code == 202
    client = shared.ua(bob, answer=486)
    client.register()
    client.wait_messages(1)
    item = wait_until(
        lambda: [i for i in shared.items(bob) if i["last_error"]], 5)[0]
    assert item["attempts"] >= 1
    assert item["last_error"] == "486"
    assert item["state"] == "queued"
    assert item["next_attempt"]
    assert moment(item["next_attempt"]) > moment(item["received"])
    assert shared.queue(bob)["messages"] == 2
    # the second must not pass the first
    assert set(client.bodies) == {b"one"}

    client.answer = 200
    shared.wait_empty(bob, 10)
    taken = [m.body for m in client.messages if m.answered == 200]
    assert taken == [b"one", b"two"]
    first = [m for m in client.messages if m.body == b"one"]
    assert len({m.call_id for m in first}) == 1
    assert len({m.branch for m in first}) == len(first)


def test_a_message_that_one_client_cannot_take_does_not_stop_the_others(
        shared, user):
    bob = user()
    alice = shared.ua("alice")
    for text, kind in ((b"<x/>", "text/xml"), (b"two", "text/plain")):
        assert alice.message("sip:%s@example.org" % bob, text,
                             kind).code == 202

    def picky(message):
        return 200 if message.get("content-type") == "text/plain" else 415

    client = shared.ua(bob, answer=picky)
    client.register()
    wait_until(lambda: b"two" in client.bodies, 10)
    wait_until(lambda: [i["size"] for i in shared.items(bob)] == [4], 5,
               "only the refused message is left")
    assert shared.items(bob)[0]["last_error"] == "415"


def test_after_max_attempts_a_message_is_dead_and_still_visible(new_stack):
    stack = new_stack({"max_attempts": 2, "retry_intervals": "1"}).start()
    assert stack.ua("alice").message("sip:bob@example.org", b"x").code == 202
    client = stack.ua("bob", answer=486)
    client.register()
    wait_until(lambda: stack.items("bob")[0]["state"] == "dead", 10)
    assert len(client.messages) == 2
    item = stack.items("bob")[0]
    assert (item["attempts"], item["last_error"]) == (2, "486")
    assert stack.queue("bob")["state_counts"]["dead"] == 1
    assert stack.metric("dead") == 1
    path = stack.queue_path("bob", "/messages?state=")
    assert [d["id"] for d in stack.http(path + "dead").json["items"]] == [
        item["id"]]
    assert stack.http(path + "queued").json["items"] == []
    client.answer = 200
    client.register()
    stack.ua("alice").message("sip:carol@example.org", b"y")
    carol = stack.ua("carol")
    carol.register()
    carol.wait_messages(1)
    assert len(client.messages) == 2


def test_an_expired_message_is_never_delivered(shared, user):
    bob = user()
    alice = shared.ua("alice")
    assert alice.message("sip:%s@example.org" % bob, b"stale",
                         headers=[("Expires", "2")]).code == 202
    assert shared.queue(bob)["messages"] == 1
    wait_until(lambda: shared.queue(bob) is None, 5, "it expires")
    client = shared.ua(bob)
    client.register()
    client.register(expires=0)
    assert alice.message("sip:%s@example.org" % bob, b"fresh").code == 202
    client.register()
    assert client.wait_messages(1)[0].body == b"fresh"
    shared.wait_empty(bob)
    assert client.bodies == [b"fresh"]


def test_one_user_in_any_spelling_has_one_queue(shared, user):
    bob = user()
    alice = shared.ua("alice")
    spellings = ["sip:%s@EXAMPLE.org", "sip:%s@example.org;user=phone",
                 "sip:%s@example.org;transport=tcp", "sip:%%62%s@example.org"]
    for i, spelling in enumerate(spellings):
        name = bob[1:] if "%%62" in spelling else bob
        assert alice.message(spelling % name, b"%d" % i).code == 202, spelling
    assert shared.queue(bob)["messages"] == len(spellings)
    client = shared.ua(bob)
    client.register()
    client.wait_messages(len(spellings))
    shared.wait_empty(bob)


def test_two_users_who_differ_in_case_have_two_queues(shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    assert shared.queue(bob.upper()) is None
    other = shared.ua(bob.upper())
    other.register()
    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)
    assert other.messages == []


def test_the_script_sees_what_happened(new_stack):
    stack = new_stack({"queue_max_messages": 2},
                      cfg_edit=("cpm_reply();", """
	xlog("L_INFO", "seen rc=$rc code=$cpm(code) reason=$cpm(reason)"
		" why=$cpm(why) id=$cpm(id) size=$cpm(queue_size)"
		" bytes=$cpm(queue_bytes)\\n");
	cpm_reply();""")).start()
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:bob@example.org",
                      [("Content-Type", "text/plain")], b"hello")
    alice.transact(raw)
    alice.transact(raw.replace(b"branch=z9hG4bK", b"branch=z9hG4bKagain"))
    alice.message("sip:bob@example.org", b"two")
    alice.message("sip:bob@example.org", b"three")
    log = stack.kamailio
    first = log.wait_log(r"seen rc=\S+ code=202 reason=Accepted why=queued "
                         r"id=(\S+) size=1 bytes=(\d+)")
    log.wait_log(r"code=202 reason=Accepted why=duplicate id=%s size=1 "
                 r"bytes=%s" % (first[1], first[2]))
    log.wait_log(r"code=202 reason=Accepted why=queued id=\S+ size=2")
    log.wait_log(r"code=480 reason=Temporarily Unavailable "
                 r"why=quota-messages id=\S+ size=2")


def test_a_flush_by_the_script_delivers_at_once(new_stack):
    stack = new_stack({"register_trigger": 0, "retry_intervals": "600"},
                      cfg_edit=("	if(is_method(\"OPTIONS\")", """
	if(is_method("OPTIONS") && $rU != $null) {
		$var(rc) = cpm_flush_queue("sip:bob@example.org");
		cpm_flush_queue("sip:bob@example.org");
		sl_send_reply("200", "flush");
		xlog("L_INFO", "flush rc=$rc\\n");
		exit;
	}
	if(is_method("OPTIONS")""")).start()
    stack.ua("alice").message("sip:bob@example.org", b"hello")
    client = stack.ua("bob")
    client.register()
    stack.ua("carol").request("OPTIONS", "sip:go@example.org")
    assert client.wait_messages(1)[0].body == b"hello"
    stack.wait_empty("bob")
