# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Senders repeat themselves; recipients must not notice."""


def build(ua, to, body=b"once", **kw):
    return ua.build("MESSAGE", "sip:%s@example.org" % to,
                    [("Content-Type", "text/plain")], body, **kw)


def test_a_retransmission_is_answered_202_again_and_queued_once(shared, user):
    bob = user()
    alice = shared.ua("alice")
    raw = build(alice, bob)
    for _ in range(3):
        assert alice.transact(raw).code == 202
    assert shared.queue(bob)["messages"] == 1
    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)
    assert client.bodies == [b"once"]


def test_the_same_request_on_another_branch_is_queued_once(shared, user):
    # what a proxy on the way does after its own timeout
    bob = user()
    alice = shared.ua("alice")
    same = dict(call_id=alice.new_id(), cseq=7, from_tag="abc")
    for _ in range(2):
        assert alice.transact(build(alice, bob, **same)).code == 202
    assert shared.queue(bob)["messages"] == 1


def test_a_late_retransmission_is_not_delivered_again(shared, user):
    bob = user()
    alice = shared.ua("alice")
    raw = build(alice, bob)
    assert alice.transact(raw).code == 202
    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)
    client.register(expires=0)
    assert alice.transact(raw).code == 202
    assert shared.queue(bob) is None
    assert alice.message("sip:%s@example.org" % bob, b"next").code == 202
    client.register()
    client.wait_messages(2)
    shared.wait_empty(bob)
    assert client.bodies == [b"once", b"next"]


def test_the_same_text_sent_twice_is_delivered_twice(shared, user):
    bob = user()
    alice = shared.ua("alice")
    for _ in range(2):
        assert alice.message("sip:%s@example.org" % bob, b"ping").code == 202
    assert shared.queue(bob)["messages"] == 2
    client = shared.ua(bob)
    client.register()
    client.wait_messages(2)
    shared.wait_empty(bob)
    assert client.bodies == [b"ping", b"ping"]


def cpim(message_id, text):
    return ("From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\n"
            "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: %s\r\n\r\n"
            "Content-Type: text/plain\r\n\r\n%s" % (message_id, text)).encode()


def test_a_message_id_that_comes_again_in_a_new_request_is_queued_once(
        shared, user):
    bob = user()
    alice = shared.ua("alice")
    for _ in range(2):
        assert alice.message("sip:%s@example.org" % bob, cpim("m1", "x"),
                             "message/cpim").code == 202
    items = shared.items(bob)
    assert [i["id"] for i in items] == ["m1"]


def test_one_message_id_of_two_senders_makes_two_messages(shared, user):
    bob = user()
    bodies = [cpim("same-id", "from alice"), cpim("same-id", "from mallory")]
    for name, body in zip(("alice", "mallory"), bodies):
        for _ in range(2):
            assert shared.ua(name).message(
                "sip:%s@example.org" % bob, body, "message/cpim").code == 202
    items = shared.items(bob)
    assert len(items) == 2
    assert len({i["id"] for i in items}) == 2
    client = shared.ua(bob)
    client.register()
    client.wait_messages(2)
    shared.wait_empty(bob)
    assert client.bodies == bodies
    assert len({m.call_id for m in client.messages}) == 2


def test_a_recipients_retransmitted_200_and_a_lost_one_do_no_harm(
        shared, user):
    bob = user()
    assert shared.ua("alice").message(
        "sip:%s@example.org" % bob, b"x").code == 202
    client = shared.ua(bob, answer=None)
    client.register()
    message = client.wait_messages(1)[0]
    # the first 200 is lost; the request comes again and is answered twice
    client.wait(lambda: message.repeats >= 1, 5)
    client.reply(message, 200)
    client.reply(message, 200)
    shared.wait_empty(bob)
    assert len(client.messages) == 1
