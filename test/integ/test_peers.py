# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The story again, told by clients that others wrote."""

import pytest

from peers import Baresip, Linphone, Sipp


def test_sipp_to_sipp(shared, user, tmp_path):
    bob = user()
    alice = user("alice")
    Sipp(shared, "message_uac", bob, tmp_path, calls=5, **{
        "from": alice, "text": "hello from SIPp"}).expect_success()
    queue = shared.queue(bob)
    assert queue["messages"] == 5
    assert {i["subject"] for i in shared.items(bob)} == {"from SIPp"}
    receiver = Sipp(shared, "message_uas", bob, tmp_path,
                    calls=5).wait_listening()
    Sipp(shared, "register_uac", bob, tmp_path,
         contact_port=receiver.port).expect_success()
    receiver.expect_success()
    shared.wait_empty(bob)
    assert shared.http(shared.queue_path(bob)).status == 404


def test_five_hundred_messages_of_sipp_in_their_order(shared, user, tmp_path):
    # One after the other: of two that are on their way at once, two SIP workers
    # may well queue the second one first, and nobody could call that wrong.
    bob = user()
    alice = user("alice")
    Sipp(shared, "message_uac", bob, tmp_path, calls=500, rate=500, at_once=1, **{
        "from": alice, "text": "hello from SIPp"}).expect_success()
    assert shared.queue(bob)["messages"] == 500
    client = shared.ua(bob)
    client.register()
    client.wait_messages(500, 30)
    shared.wait_empty(bob)
    assert len(set(client.bodies)) == 500
    numbers = [int(b.split()[3]) for b in client.bodies]
    assert numbers == sorted(numbers)


@pytest.fixture
def baresip(shared, tmp_path):
    made = []

    def make(user, friend):
        made.append(Baresip(shared, user, friend, tmp_path))
        made[-1].wait_registered()
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def linphone(shared, tmp_path):
    made = []

    def make(user):
        made.append(Linphone(shared, user, tmp_path))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_sipua_to_baresip(shared, user, baresip):
    bob = user()
    alice = shared.ua("alice")
    for text in (b"first, offline", b"second"):
        assert alice.message("sip:%s@example.org" % bob, text).code == 202
    client = baresip(bob, "alice")
    client.wait_received("alice", "second")
    shared.wait_empty(bob)
    assert client.received() == ["first, offline", "second"]


def test_baresip_takes_what_it_can_and_the_rest_stays(shared, user, baresip):
    bob = user()
    alice = shared.ua("alice")
    alice.message("sip:%s@example.org" % bob, b"<x/>", "application/xml")
    alice.message("sip:%s@example.org" % bob, b"plain")
    client = baresip(bob, "alice")
    client.wait_received("alice", "plain")
    item = shared.items(bob)[0]
    assert (item["content_type"], item["last_error"]) == (
        "application/xml", "415")


def test_baresip_to_linphone(shared, user, baresip, linphone):
    alice, bob = user("alice"), user()
    sender = baresip(alice, bob)
    sender.send("from baresip, offline")
    from harness import wait_until
    wait_until(lambda: shared.queue(bob), 5)
    item = shared.items(bob)[0]
    assert item["content_type"].startswith("text/plain")
    assert alice in item["from"]
    receiver = linphone(bob)
    receiver.wait_registered()
    receiver.wait_received(alice, "from baresip, offline")
    shared.wait_empty(bob)
    assert receiver.received() == ["from baresip, offline"]


def test_linphone_to_sipua(shared, user, linphone):
    alice, bob = user("alice"), user()
    sender = linphone(alice)
    sender.wait_registered()
    sender.send(bob, "grüße from linphone")
    sender.wait_sent()
    assert shared.queue(bob)["messages"] == 1
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert "grüße from linphone" in message.body.decode()
    assert message.problems == []
    shared.wait_empty(bob)


def test_a_cpim_message_from_sipua_reaches_linphone_once(
        shared, user, linphone):
    bob = user()
    cpim = ("From: <sip:alice@example.org>\r\nTo: <sip:%s@example.org>\r\n"
            "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: cpim-%s\r\n"
            "\r\nContent-Type: text/plain\r\n\r\ninside" % (bob, bob)).encode()
    alice = shared.ua("alice")
    for _ in range(2):
        assert alice.message("sip:%s@example.org" % bob, cpim,
                             "message/cpim").code == 202
    client = linphone(bob)
    client.wait_received("alice", "inside")
    shared.wait_empty(bob)
    assert client.received() == ["inside"]
