# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Queued messages brought in a session: INVITE, MSRP, BYE."""

import os
import signal
import socket

import pytest

import msrpua
from db import cpim
from harness import HOST, wait_until
from push import CPIM, SESSIONS_ONLY, bodies, ours, send


@pytest.fixture
def start(msrp_start):
    return msrp_start


@pytest.fixture
def client(request):
    made = []

    def make(stack, user="bob", **kw):
        ua = msrpua.CpmClient(user, proxy=(HOST, stack.sip_port), **kw)
        made.append(ua)
        return ua
    yield make
    for ua in made:
        ua.close()


@pytest.mark.parametrize("setup", ["active", "passive", None])
@pytest.mark.parametrize("profile", ["standalone", "chat"])
def test_all_that_is_queued_comes_in_one_session_and_it_is_hung_up(
        start, client, profile, setup):
    stack = start()
    sent = [send(stack, b"message %d" % i) for i in range(5)]
    assert stack.queue("bob")["messages"] == 5
    bob = client(stack, profile=profile, setup=setup)
    bob.register()
    bob.wait_msrp(5)
    assert bodies(bob) == sent
    assert [m.content_type for m in bob.msrp_messages] == [CPIM] * 5
    stack.wait_empty("bob")
    wait_until(lambda: bob.sessions[0].ended, 5, "the PF hangs up")
    assert len(bob.invites) == 1
    assert ours(bob.violations) == []
    assert stack.metric("delivered_msrp") == 5
    assert stack.metric("sessions") == 1


def test_the_invite_says_who_sent_it_and_what_it_is(start, client):
    stack = start()
    send(stack, b"x", headers=[("Conversation-ID", "conv-1"),
                               ("Contribution-ID", "contr-1")])
    bob = client(stack)
    bob.register()
    bob.wait_msrp(1)
    invite = bob.invites[0]
    assert invite.get("conversation-id") == "conv-1"
    assert invite.get("contribution-id") == "contr-1"
    assert "sip:alice@example.org" in invite.get("from")
    assert "sip:bob@example.org" in invite.get("p-called-party-id")
    assert "oma.cpm.deferred" in invite.get("accept-contact")
    assert invite.get("p-asserted-service").endswith("oma.cpm.deferred")
    stack.wait_empty("bob")


def test_a_chat_client_is_told_the_sender_by_referred_by(start, client):
    stack = start()
    for sender, n in (("alice", 2), ("carol", 1), ("alice", 1)):
        for i in range(n):
            send(stack, b"%d" % i, sender=sender)
    bob = client(stack, profile="chat")
    bob.register()
    bob.wait_msrp(4)
    stack.wait_empty("bob")
    senders = [i.get("referred-by") for i in bob.invites]
    assert senders == ["<sip:alice@example.org>", "<sip:carol@example.org>",
                       "<sip:alice@example.org>"]
    assert "rcse-standfw@example.org" in bob.invites[0].get(
        "p-asserted-identity")


def test_a_client_of_one_message_a_session_gets_all(start, client):
    stack = start()
    sent = [send(stack, b"%d" % i) for i in range(4)]
    bob = client(stack, script=lambda: msrpua.Script(refuse_from=2))
    bob.register()
    stack.wait_empty("bob", 15)
    assert [b for b in bodies(bob)] == sent
    assert len(bob.invites) == 4


def test_a_message_that_comes_during_the_session_joins_it(start, client):
    stack = start()
    first = send(stack, b"first")
    bob = client(stack, script=msrpua.Script(hold=2))
    bob.register(params=SESSIONS_ONLY)
    bob.wait_msrp(1)
    second = send(stack, b"second")
    bob.wait_msrp(2)
    assert bodies(bob) == [first, second]
    stack.wait_empty("bob")
    assert len(bob.invites) == 1


def test_who_refuses_is_asked_again_later(start, client):
    stack = start()
    sent = send(stack, b"x")
    codes = [486, 480]
    bob = client(stack, invite_answer=lambda msg: codes.pop(0) if codes
                 else 200)
    bob.register()
    bob.wait_msrp(1, 15)
    assert bodies(bob) == [sent]
    stack.wait_empty("bob")
    assert len(bob.invites) == 3


def test_the_second_client_gets_it_when_the_first_refuses(start, client):
    stack = start()
    sent = send(stack, b"x")
    busy = client(stack, invite_answer=486)
    free = client(stack)
    busy.register(params=msrpua.TAGS["standalone"] + ";q=1.0")
    free.register(params=msrpua.TAGS["standalone"] + ";q=0.5")
    free.wait_msrp(1, 15)
    stack.wait_empty("bob")
    assert bodies(free) == [sent]
    assert busy.msrp_messages == []


def test_a_client_that_takes_no_session_after_all_gets_a_message(
        start, client):
    stack = start()
    sent = send(stack, b"x")
    bob = client(stack, invite_answer=488)
    bob.register()
    bob.wait_messages(1)
    assert bob.bodies() == [sent] if callable(bob.bodies) else [sent]
    stack.wait_empty("bob")


def test_cut_in_the_middle_of_the_third_two_are_gone_and_three_come_later(
        start, client):
    stack = start({"retry_intervals": "1"})
    sent = [send(stack, b"message %d " % i + b"x" * 5000) for i in range(5)]
    scripts = [msrpua.Script(cut_message=3)]
    bob = client(stack, script=lambda: scripts.pop(0) if scripts
                 else msrpua.Script())
    bob.register()
    stack.wait_empty("bob", 20)
    first, second = bob.sessions[0], bob.sessions[1]
    assert [m.body for m in first.messages] == sent[:2]
    assert [m.body for m in second.messages] == sent[2:]


def test_a_client_that_hangs_up_keeps_the_rest_in_the_queue(start, client):
    stack = start({"retry_intervals": "600"})
    for i in range(5):
        send(stack, b"%d" % i)
    bob = client(stack, script=msrpua.Script(silent_from=3), hang_up_after=2)
    bob.register()
    wait_until(lambda: any(item["last_error"] for item in
                           stack.items("bob")), 10, "bob hangs up")
    assert stack.queue("bob")["messages"] == 3
    assert stack.queue("bob")["state_counts"]["queued"] == 3
    assert len(bob.invites) == 1


def test_a_megabyte_comes_whole(start, client):
    stack = start({"message_max_bytes": 1048576})
    body = bytes(range(256)) * 200
    whole = cpim(body)
    alice = stack.ua("alice", transport="tcp")
    assert alice.message("sip:bob@example.org", whole, CPIM).code == 202
    bob = client(stack)
    bob.register()
    bob.wait_msrp(1, 20)
    assert bodies(bob) == [whole]
    assert len(bob.msrp_messages[0].chunks) > 10
    stack.wait_empty("bob")
    assert ours(bob.violations) == []


def test_when_the_msrp_worker_dies_sip_goes_on_and_the_rest_comes_later(
        start, client):
    stack = start({"lease_time": 3, "retry_intervals": "1"})
    stack.expect_log(r"nursery: worker died role=msrp")
    sent = [send(stack, b"message %d" % i) for i in range(3)]
    scripts = [msrpua.Script(silent_from=2)]
    bob = client(stack, script=lambda: scripts.pop(0) if scripts
                 else msrpua.Script())
    bob.register()
    wait_until(lambda: (stack.queue("bob") or {}).get("messages") == 2, 10)
    for pid in stack.workers():
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            if b"\0msrp\0" in f.read():
                os.kill(pid, signal.SIGKILL)
    assert stack.ua("dave").register().code == 200
    stack.wait_empty("bob", 20)
    got = bodies(bob)
    assert [b for i, b in enumerate(got) if b not in got[:i]] == sent


def test_a_client_that_takes_sessions_only_gets_its_messages_at_once(
        start, client):
    stack = start()
    bob = client(stack)
    bob.register(params=SESSIONS_ONLY)
    sent = send(stack, b"now")
    bob.wait_msrp(1)
    assert bodies(bob) == [sent]
    stack.wait_empty("bob")


def test_a_content_type_with_a_tab_holds_up_nobody(start, client):
    stack = start({"retry_intervals": "1"})
    assert stack.ua("alice").message(
        "sip:bob@example.org", b"tab",
        "text/plain;\tcharset=utf-8").code == 202
    second = send(stack, b"second")
    bob = client(stack, accept_types="message/cpim text/plain")
    bob.register(params=SESSIONS_ONLY)
    stack.wait_empty("bob", 10)
    assert bodies(bob) == [b"tab", second]


def test_without_an_msrp_worker_a_client_gets_messages(start, client):
    stack = start({"retry_intervals": "1"})
    stack.expect_log(r"nursery: worker (died|ended) role=msrp", r"msrp: ")
    sent = send(stack, b"x")
    # whoever has the port, the worker cannot start again
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def kill_and_take():
        for pid in stack.workers():
            with open("/proc/%d/cmdline" % pid, "rb") as f:
                if b"\0msrp\0" in f.read():
                    os.kill(pid, signal.SIGKILL)
        try:
            taken.bind((HOST, stack.msrp_port))
            return True
        except OSError:
            return False
    with taken:
        wait_until(kill_and_take, 10)
        taken.listen()
        stack.kamailio.wait_log(r"session: msrp worker is gone")
        bob = client(stack)
        bob.register()
        bob.wait_messages(1)
        assert [m.body for m in bob.messages] == [sent]
        stack.wait_empty("bob")
