# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of a message, as its recipient and the provider wish: on each
kind of database."""

import threading
import time

import pytest

import databases
from db import World, cpim, tag
from harness import wait_until

PHONE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
TABLET = "urn:uuid:00000000-0000-1000-8000-000a95a0e129"
LAPTOP = "urn:uuid:00000000-0000-1000-8000-000a95a0e12a"

@pytest.fixture(scope="module")
def servers():
    servers = databases.Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module", params=["sqlite", "mysql", "postgres"])
def _world(request, servers, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    database = servers.database(request.param, str(directory)).create()
    world = World(directory, database)
    try:
        world.user("alice")
        yield world.start()
    finally:
        world.close()


# ---------------------------------------------------- who is there at all


def test_an_unknown_recipient_is_404_and_has_no_queue(world, user):
    zoe = user("zoe")
    response = world.send(zoe)
    assert (response.code, response.reason) == (404, "Not Found")
    assert world.stack.queue(zoe) is None


def test_a_disabled_recipient_is_404_though_a_client_is_registered(
        world, user):
    bob = world.user(user(), enabled=0)
    client = world.client(bob)
    assert world.send(bob).code == 404
    assert client.messages == [] and world.stack.queue(bob) is None


@pytest.mark.parametrize("who", ["unknown", "disabled"])
def test_such_a_sender_is_403_service_not_authorised(world, user, who):
    bob, sender = world.user(user()), user(who)
    if who == "disabled":
        world.user(sender, enabled=0)
    client = world.client(bob)
    response = world.send(bob, sender=sender)
    assert response.code == 403
    assert response.get("warning") == \
        '399 example.org "127 Service not authorised"'
    assert client.messages == []


# ------------------------------------------------------------- rejection


REJECTED = [
    ("by originator", {"originator": "sip:alice@example.org"}, {}),
    ("by the originator's domain", {"originator": "*@example.org"}, {}),
    ("by the beginning of the originator", {"originator": "sip:al*"}, {}),
    ("by a withheld identity", {"originator": "anonymous"},
     {"headers": [("Privacy", "id")]}),
    ("by an anonymous From", {"originator": "anonymous"},
     {"from_": '"Anonymous" <sip:anonymous@anonymous.invalid>'}),
    ("by content type", {"content_type": "image/png"},
     {"content_type": "IMAGE/PNG; name=x"}),
    ("by a kind of content", {"content_type": "image/*"},
     {"content_type": "image/gif"}),
    ("by the type inside a CPIM", {"content_type": "image/*"},
     {"content_type": "message/cpim", "body": cpim(b"GIF89a", "image/gif")}),
    ("by size", {"min_size": 100}, {"body": b"x" * 100}),
    ("by large mode", {"message_kind": "large"}, {"body": b"x" * 1301}),
    ("by a large-mode tag", {"message_kind": "large"},
     {"headers": [("Accept-Contact", "*;" + tag("largemsg"))]}),
    ("in a window of time", {"valid_from": 1600000000,
                             "valid_until": 4102444800}, {}),
]


@pytest.mark.parametrize("what,columns,message", REJECTED,
                         ids=[r[0] for r in REJECTED])
def test_rejected_as_the_recipient_wishes(world, user, what, columns,
                                          message):
    bob = user()
    world.user(bob, world.rule(bob, "reject", **columns))
    client = world.client(bob)
    response = world.send(bob, **message)
    assert (response.code, response.reason) == (403, "Forbidden")
    assert client.messages == [] and world.stack.queue(bob) is None


NOT_REJECTED = [
    ("of another originator", {"originator": "sip:carol@example.org"}, {}),
    ("of another domain", {"originator": "*@ample.org"}, {}),
    ("of who shows himself", {"originator": "anonymous"},
     {"headers": [("Privacy", "none")]}),
    ("of another type", {"content_type": "text/html"}, {}),
    ("of another type in a CPIM", {"content_type": "image/*"},
     {"content_type": "message/cpim", "body": cpim(b"hello")}),
    ("of less size", {"min_size": 100}, {"body": b"x" * 99}),
    ("of more size", {"max_size": 100}, {"body": b"x" * 101}),
    ("in pager mode", {"message_kind": "large"}, {"body": b"x" * 1300}),
    ("after the window", {"valid_until": 1600000000}, {}),
    ("before the window", {"valid_from": 4102444800}, {}),
]


@pytest.mark.parametrize("what,columns,message", NOT_REJECTED,
                         ids=[r[0] for r in NOT_REJECTED])
def test_a_rule_does_not_concern_a_message(world, user, what, columns,
                                           message):
    bob = user()
    world.user(bob, world.rule(bob, "reject", **columns))
    client = world.client(bob)
    assert world.send(bob, **message).code == 200
    assert len(client.messages) == 1


def test_the_lowest_priority_number_decides(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "reject", priority=20),
               world.rule(bob, "deliver", priority=10, content_type="text/*"),
               world.rule(bob, "reject", priority=-5,
                          content_type="text/html"))
    client = world.client(bob)
    assert world.send(bob, content_type="text/html").code == 403
    assert world.send(bob, content_type="text/plain").code == 200
    assert world.send(bob, content_type="image/png").code == 403
    assert len(client.messages) == 1


def test_a_window_that_ends_now_ends(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "reject",
                               valid_until=int(time.time()) + 2))
    client = world.client(bob)
    assert world.send(bob).code == 403
    wait_until(lambda: world.send(bob).code == 200, 5, "the rule has ended")
    assert len(client.messages) == 1


# --------------------------------------------------------------- queueing


def test_without_a_registered_client_it_is_queued(world, user):
    bob = world.user(user())
    assert world.send(bob).code == 202
    assert world.queued(bob) == [5]
    client = world.client(bob)
    assert client.wait_messages(1)[0].body == b"hello"
    world.stack.wait_empty(bob)


def test_a_user_who_wants_to_be_asked_gets_it_queued(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "queue", content_type="image/*"))
    world.client(bob, answer=None)
    assert world.send(bob, b"GIF", "image/gif").code == 202
    assert world.queued(bob) == [3]


def test_a_user_who_wants_to_be_asked_hears_nothing_before(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "queue", content_type="image/*"))
    client = world.client(bob)
    world.settle(user("canary"))
    assert world.send(bob, b"GIF", "image/gif").code == 202
    world.settle(user("canary"), client)
    assert client.messages == []
    assert world.queued(bob) == [3]


def test_a_user_who_defers_gets_it_queued(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "defer", originator="*@example.org"))
    world.client(bob, answer=None)
    assert world.send(bob).code == 202
    assert world.queued(bob) == [5]


def test_when_every_client_defers_it_is_queued(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "defer", device=PHONE),
               world.rule(bob, "defer", device=TABLET))
    for device in (PHONE, TABLET):
        world.client(bob, instance=device, answer=None)
    assert world.send(bob).code == 202
    assert world.queued(bob) == [5]


def test_clients_that_defer_hear_nothing(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "defer", device=PHONE),
               world.rule(bob, "defer", device=TABLET))
    clients = [world.client(bob, instance=d) for d in (PHONE, TABLET)]
    assert world.send(bob).code == 202
    world.settle(user("canary"), *clients)
    assert [c.messages for c in clients] == [[], []]
    assert world.queued(bob) == [5]


def test_two_of_three_clients_get_it_and_the_third_hears_nothing(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "defer", device=TABLET,
                               content_type="text/*"))
    phone, tablet, laptop = [
        world.client(bob, instance=d) for d in (PHONE, TABLET, LAPTOP)]
    # what nobody defers goes to all three: that shows who would have heard
    assert world.send(bob, b"<", "image/gif").code == 200
    for client in (phone, tablet, laptop):
        client.wait_messages(1)
    assert world.send(bob, b"hello").code == 200
    phone.wait_messages(2)
    laptop.wait_messages(2)
    assert world.send(bob, b">", "image/gif").code == 200
    for client in (phone, laptop):
        assert [m.body for m in client.wait_messages(3)] == \
            [b"<", b"hello", b">"]
    tablet.wait_messages(2)
    assert tablet.bodies == [b"<", b">"]
    assert world.stack.queue(bob) is None


def test_a_device_is_known_by_its_instance_in_any_case(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "reject", device="<%s>" % PHONE.upper()))
    phone = world.client(bob, instance=PHONE)
    other = world.client(bob)
    assert world.send(bob).code == 200
    assert world.send(bob, b"more").code == 200
    assert len(other.wait_messages(2)) == 2
    assert phone.messages == []


# ------------------------------------------------------- other ways to go


def expect_interworked(world, user, response, body):
    assert response.code == 200
    message = world.isf.wait_messages(1)[0]
    assert message.uri == "sip:%s@example.org" % user
    assert message.all("route") == ["<%s;lr>" % world.isf_uri]
    assert message.body == body
    assert message.problems == []
    assert message.all("p-called-party-id") == []
    return message


def test_a_rule_hands_over_to_the_isf_as_it_came(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "interwork"))
    client = world.client(bob)
    body = cpim(b"\0\xff tea?\r\n", message_id="m-1")
    response = world.send(bob, body, "message/cpim;charset=UTF-8",
                          [("Conversation-ID", "c1"),
                           ("Contribution-ID", "c2"),
                           ("Accept-Contact", "*;" + tag("msg"))])
    message = expect_interworked(world, bob, response, body)
    assert message.get("content-type") == "message/cpim;charset=UTF-8"
    assert message.get("conversation-id") == "c1"
    assert message.get("contribution-id") == "c2"
    assert message.get("accept-contact") == "*;" + tag("msg")
    assert client.messages == [] and world.stack.queue(bob) is None


def test_who_is_offline_may_be_reached_by_the_isf(world, user):
    bob = world.user(user(), when_offline="interwork")
    expect_interworked(world, bob, world.send(bob), b"hello")
    client = world.client(bob)
    world.isf.messages = []
    assert world.send(bob, b"online").code == 200
    assert client.bodies == [b"online"] and world.isf.messages == []


def test_what_the_isf_says_is_what_the_sender_hears(world, user):
    bob = user()
    world.user(bob, world.rule(bob, "interwork"))
    world.isf.answer = 488
    assert world.send(bob).code == 488
    assert world.stack.queue(bob) is None


def test_a_client_that_does_not_answer_is_offline_for_the_isf(world, user):
    bob = world.user(user(), when_offline="interwork")
    lost = world.client(bob, answer=None)
    response = world.send(bob)
    assert response.code == 200
    message = world.isf.wait_messages(1)[0]
    assert message.uri == "sip:%s@example.org" % bob
    assert message.all("route") == ["<%s;lr>" % world.isf_uri]
    assert message.body == b"hello"
    assert len(lost.messages) == 1
    assert world.stack.queue(bob) is None


@pytest.mark.parametrize("by", ["rule", "when_offline"])
def test_what_is_to_be_stored_is_queued_until_there_is_a_store(
        world, user, by):
    bob = user()
    if by == "rule":
        world.user(bob, world.rule(bob, "store"))
    else:
        world.user(bob, when_offline="store")
    assert world.send(bob).code == 202
    assert world.queued(bob) == [5]
    world.stack.kamailio.wait_log(
        r"queue: queued aor=sip:%s@example.org .*reason=store" % bob)


def test_who_is_offline_may_reject(world, user):
    bob = world.user(user(), when_offline="reject")
    response = world.send(bob)
    assert (response.code, response.reason) == (480, "Temporarily Unavailable")
    assert world.stack.queue(bob) is None
    assert world.client(bob).messages == []
    assert world.send(bob).code == 200


def test_who_is_offline_may_discard_and_the_sender_never_knows(world, user):
    bob = world.user(user(), when_offline="discard")
    response = world.send(bob)
    assert (response.code, response.reason) == (202, "Accepted")
    assert world.stack.queue(bob) is None
    client = world.client(bob)
    world.settle(user("canary"), client)
    assert client.messages == []
    assert world.send(bob, b"online").code == 200
    assert client.bodies == [b"online"]


# ------------------------------------------------- the provider's policies


def test_a_policy_refuses_by_size_whatever_the_user_prefers(world, user):
    bob, kind = user(), user("class")
    world.user(bob, world.policy(kind, max_size=10),
               world.rule(bob, "deliver"), world.rule(bob, "store"),
               service_class=kind)
    client = world.client(bob)
    assert world.send(bob, b"x" * 10).code == 200
    response = world.send(bob, b"x" * 11)
    assert response.code == 403
    assert response.get("warning") == '399 example.org "133 Size exceeded"'
    assert client.bodies == [b"x" * 10] and world.stack.queue(bob) is None


def test_a_policy_refuses_a_type_with_415_and_says_what_is_accepted(
        world, user):
    bob, kind = user(), user("class")
    types = "text/plain, message/cpim, image/*"
    world.user(bob, world.policy(kind, accept_types=types),
               world.rule(bob, "deliver"), service_class=kind)
    client = world.client(bob)
    for message in ({"content_type": "video/mp4"},
                    {"content_type": "text/html"},
                    {"content_type": "message/cpim",
                     "body": cpim(b"x", "video/mp4")}):
        response = world.send(bob, **message)
        assert (response.code, response.reason) == (
            415, "Unsupported Media Type")
        assert response.get("accept") == types
    assert client.messages == []
    for content_type in ("text/plain;charset=UTF-8", "Image/PNG"):
        assert world.send(bob, content_type=content_type).code == 200
    assert world.send(bob, cpim(b"x"), "message/cpim").code == 200


def test_a_policy_refuses_whom_nobody_can_tell(world, user):
    bob, kind = user(), user("class")
    world.user(bob, world.policy(kind, allow_anonymous=0),
               world.rule(bob, "deliver", originator="anonymous"),
               service_class=kind)
    client = world.client(bob)
    for message in ({"headers": [("Privacy", "id")]},
                    {"from_": "<sip:anonymous@anonymous.invalid>"}):
        response = world.send(bob, **message)
        assert response.code == 403
        assert response.get("warning") == \
            '399 example.org "119 Anonymity not allowed"'
    assert client.messages == []
    assert world.send(bob).code == 200


SENDER_POLICIES = [
    ("send at all", {"allow_send": 0}, {}, 403, "122 Function not allowed"),
    ("hide", {"allow_anonymous": 0}, {"headers": [("Privacy", "id")]}, 403,
     "119 Anonymity not allowed"),
    ("send so much", {"max_size": 10}, {"body": b"x" * 11}, 403,
     "133 Size exceeded"),
    ("send such a type", {"accept_types": "text/plain"},
     {"content_type": "text/html"}, 415, None),
]


@pytest.mark.parametrize("what,policy,message,code,warning", SENDER_POLICIES,
                         ids=[p[0] for p in SENDER_POLICIES])
def test_a_sender_whose_policy_forbids_it_may_not(
        world, user, what, policy, message, code, warning):
    bob, sender, kind = user(), user("sender"), user("class")
    world.user(sender, world.policy(kind, **policy), service_class=kind)
    client = world.client(world.user(bob))
    response = world.send(bob, sender=sender, **message)
    assert response.code == code
    assert response.get("warning") == (
        '399 example.org "%s"' % warning if warning else None)
    assert response.get("accept") == (
        "text/plain" if code == 415 else None)
    assert client.messages == [] and world.stack.queue(bob) is None


def test_a_policy_bounds_the_queue_of_its_users(world, user):
    bob, carol, kind = user(), user("carol"), user("class")
    world.user(bob, world.policy(kind, queue_max_messages=2),
               service_class=kind)
    world.user(carol)
    assert [world.send(bob).code for _ in range(3)] == [202, 202, 480]
    assert [world.send(carol).code for _ in range(3)] == [202, 202, 202]


def test_what_a_client_cannot_take_at_once_is_queued(world, user):
    bob, kind = user(), user("class")
    world.user(bob, world.policy(kind, deliver_max_size="msg=10,*=20"),
               service_class=kind)
    pager = world.client(bob, ";" + tag("msg"), answer=None)
    assert world.send(bob, b"x" * 11).code == 202
    assert world.queued(bob) == [11]
    pager.register(expires=0)
    plain = world.client(bob)
    plain.wait_messages(1)
    assert world.send(bob, b"y" * 20).code == 200
    assert world.send(bob, b"z" * 21).code == 202


# ------------------------------------------------------ clients that fail


def finals(ua):
    """Codes of all final responses to MESSAGE that a user agent got."""
    return [r.code for rs in ua._responses.values() for r in rs
            if r.code >= 200 and r.cseq[1] == "MESSAGE"]


def test_what_no_client_answers_is_queued_and_the_sender_hears_it_once(
        world, user):
    bob = world.user(user())
    client = world.client(bob, answer=None)
    alice = world.stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:%s@example.org" % bob,
                      [("Content-Type", "text/plain")], b"hello")
    assert alice.transact(raw, retransmit=False).code == 202
    assert world.queued(bob) == [5]
    world.settle(user("canary"), alice, client)
    assert finals(alice) == [202]
    # its retransmission is no new message
    assert alice.transact(raw).code == 202
    assert world.queued(bob) == [5]
    client.answer = 200
    world.stack.wait_empty(bob, 10)
    taken = [m for m in client.messages if m.answered == 200]
    assert [m.body for m in taken] == [b"hello"]


def test_a_client_that_vanished_gets_it_exactly_once_when_it_is_back(
        world, user):
    bob = world.user(user())
    world.client(bob).close()
    assert world.send(bob).code == 202
    assert world.queued(bob) == [5]
    client = world.client(bob)
    client.wait_messages(1)
    world.stack.wait_empty(bob)
    world.settle(user("canary"), client)
    assert client.bodies == [b"hello"]


def test_a_client_whose_connection_is_gone_counts_as_not_registered(
        world, user):
    bob = world.user(user())
    gone = world.client(bob, transport="tcp")
    gone.close()
    # who looks before Kamailio has seen it tries to connect
    world.stack.expect_log(r"tcpconn|tcp_send|precreated|t_send_branch")
    response = world.send(bob)
    assert response.code == 202
    client = world.client(bob, transport="tcp")
    assert client.wait_messages(1)[0].body == b"hello"
    world.stack.wait_empty(bob)


def test_a_client_that_registers_meanwhile_gets_it_and_the_first_no_more(
        world, user):
    bob = world.user(user())
    first = world.client(bob, answer=None)
    alice = world.stack.ua("alice")
    responses = []
    sending = threading.Thread(target=lambda: responses.append(
        alice.message("sip:%s@example.org" % bob, b"hello")))
    sending.start()
    first.wait_messages(1)
    second = world.client(bob)
    sending.join(10)
    assert [r.code for r in responses] == [200]
    assert second.bodies == [b"hello"]
    assert len(first.messages) == 1
    assert world.stack.queue(bob) is None


def test_of_two_clients_the_one_that_takes_it_is_enough(world, user):
    bob = world.user(user())
    takes, fails = world.client(bob), world.client(bob, answer=480)
    assert world.send(bob).code == 200
    takes.wait_messages(1)
    fails.wait_messages(1)
    world.settle(user("canary"), takes, fails)
    assert len(takes.messages) == len(fails.messages) == 1
    assert world.stack.queue(bob) is None


def test_when_both_clients_fail_each_was_asked_once_before_it_is_queued(
        world, user):
    bob = user()
    world.user(bob)
    clients = [world.client(bob, answer=code) for code in (480, 503)]
    alice = world.stack.ua("alice")
    call_id = alice.new_id()
    response = alice.message("sip:%s@example.org" % bob, b"hello",
                             call_id=call_id)
    assert response.code == 202
    for client in clients:
        assert [m.call_id for m in client.messages].count(call_id) == 1
    assert world.queued(bob) == [5]


def test_the_client_that_takes_the_rest_gets_it_when_another_fails_and_defers(
        world, user):
    bob = user()
    world.user(bob, world.rule(bob, "defer", device=TABLET))
    phone = world.client(bob, instance=PHONE, answer=480)
    tablet = world.client(bob, instance=TABLET, answer=None)
    alice = world.stack.ua("alice")
    call_id = alice.new_id()
    assert alice.message("sip:%s@example.org" % bob, b"hello",
                         call_id=call_id).code == 202
    assert [m.call_id for m in phone.messages].count(call_id) == 1
    assert call_id not in [m.call_id for m in tablet.messages]
    assert world.queued(bob) == [5]


# --------------------------------------------------- modes that are set


def test_a_client_that_has_just_registered_hears_nothing_either(
        tmp_path, user):
    database = databases.Sqlite(str(tmp_path)).create()
    world = World(tmp_path, database, {"register_delay_ms": 400})
    try:
        world.user("alice")
        world.user("bob", world.rule("bob", "queue"))
        world.start()
        client = world.client("bob")
        assert world.send("bob").code == 202
        world.settle(user("canary"), client)
        assert client.messages == []
        assert world.queued("bob") == [5]
    finally:
        world.close()


def test_in_mode_ruri_the_isf_is_the_request_uri(tmp_path):
    database = databases.Sqlite(str(tmp_path)).create()
    world = World(tmp_path, database, {"isf_mode": "ruri"})
    try:
        world.user("alice")
        world.user("bob", world.rule("bob", "interwork"))
        world.start()
        assert world.send("bob").code == 200
        message = world.isf.wait_messages(1)[0]
        assert message.uri.startswith(world.isf_uri)
        assert message.all("route") == []
        assert message.get("to") == "<sip:bob@example.org>"
        assert message.body == b"hello"
    finally:
        world.close()


@pytest.mark.parametrize("code,reason", [
    (480, "Temporarily Unavailable"), (603, "Decline"), (202, "Accepted")])
def test_a_recipients_rejection_is_said_as_configured(tmp_path, code, reason):
    database = databases.Sqlite(str(tmp_path)).create()
    world = World(tmp_path, database, {"reject_code": code})
    try:
        world.user("alice")
        world.user("bob", world.rule("bob", "reject"))
        world.start()
        client = world.client("bob")
        response = world.send("bob")
        assert (response.code, response.reason) == (code, reason)
        assert client.messages == [] and world.stack.queue("bob") is None
    finally:
        world.close()


def test_without_an_isf_what_is_to_be_interworked_is_480(tmp_path):
    database = databases.Sqlite(str(tmp_path)).create()
    world = World(tmp_path, database)
    try:
        del world.stack.defines["ISF"]
        world.user("alice")
        world.user("bob", world.rule("bob", "interwork"))
        world.start()
        response = world.send("bob")
        assert (response.code, response.reason) == (
            480, "Temporarily Unavailable")
        assert world.stack.queue("bob") is None
    finally:
        world.close()
