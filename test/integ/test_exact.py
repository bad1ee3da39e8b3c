# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What is delivered is what was received, byte for byte; only the hop's own
headers are new."""

import email.utils

import pytest

ALL_BYTES = bytes(range(256)) + b"\r\n\r\n\0\r\nMESSAGE x SIP/2.0\r\n\r\n\0"
KEPT = [
    ("Content-Encoding", "x-private"),
    ("Content-Disposition", 'render;handling="optional"'),
    ("Content-Language", "de"),
    ("Subject", "Grüße, \"quoted\" Content-Length: 5"),
    ("Reply-To", "<sip:alice-replies@example.org>"),
    ("Conversation-ID", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
    ("Contribution-ID", "abcdef-1234-5678-90ab-cdef01234567"),
    ("InReplyTo-Contribution-ID", "01234567-89ab-cdef"),
    ("X-Unknown", "a;b=c, \"d\""),
    ("X-Repeated", "1"),
    ("X-Repeated", "2"),
    ("Priority", "urgent"),
]
TYPE = 'application/x-all;charset="UTF-8";note="; , \\" ok"'


@pytest.mark.parametrize("sender_transport", ["udp", "tcp"])
@pytest.mark.parametrize("receiver_transport", ["udp", "tcp"])
def test_every_byte_of_the_body_and_every_header_of_the_message_arrive(
        shared, user, sender_transport, receiver_transport):
    bob = user()
    alice = shared.ua("alice", transport=sender_transport)
    response = alice.message(
        "sip:%s@example.org" % bob, ALL_BYTES, TYPE,
        KEPT + [("Date", "Sat, 13 Nov 2010 23:29:00 GMT")],
        from_='"Alice, A." <sip:alice@example.org;x=y>',
        to='"Bob \\" B." <sip:%s@example.org>' % bob)
    assert response.code == 202
    client = shared.ua(bob, transport=receiver_transport)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.body == ALL_BYTES
    assert message.problems == []
    assert message.all("content-type") == [TYPE]
    for name in dict(KEPT):
        assert message.all(name) == [v for n, v in KEPT if n == name], name
    assert message.all("date") == ["Sat, 13 Nov 2010 23:29:00 GMT"]
    assert message.get("from").startswith(
        '"Alice, A." <sip:alice@example.org;x=y>')
    assert message.get("to") == '"Bob \\" B." <sip:%s@example.org>' % bob
    assert message.all("p-called-party-id") == [
        "<sip:%s@example.org>" % bob]
    # of the sender's hop nothing is left
    assert len(message.list("via")) == 1
    assert message.get("call-id") != response.get("call-id")
    for name in ("route", "record-route", "expires"):
        assert message.all(name) == [], name
    shared.wait_empty(bob)


def test_compact_header_names_mean_the_same(shared, user):
    bob = user()
    alice = shared.ua("alice")
    raw = alice.build(
        "MESSAGE", "sip:%s@example.org" % bob,
        [("c", "text/plain"), ("s", "short"), ("e", "identity")], b"compact")
    for long, short in ((b"From:", b"f:"), (b"To:", b"t:"), (b"Via:", b"v:"),
                        (b"Call-ID:", b"i:"), (b"Content-Length:", b"l:")):
        raw = raw.replace(long, short, 1)
    assert alice.transact(raw).code == 202
    item = shared.items(bob)[0]
    assert (item["subject"], item["content_type"]) == ("short", "text/plain")
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.problems == []
    assert message.body == b"compact"
    assert message.get("content-type") == "text/plain"
    assert message.get("content-encoding") == "identity"
    assert message.get("subject") == "short"


def test_a_folded_header_keeps_its_value(shared, user):
    bob = user()
    alice = shared.ua("alice")
    raw = alice.build("MESSAGE", "sip:%s@example.org" % bob,
                      [("Content-Type", "text/plain"),
                       ("Subject", "first\r\n second"),
                       ("X-Folded", "one\r\n\ttwo")], b"folded")
    assert alice.transact(raw).code == 202
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.get("subject").split() == ["first", "second"]
    assert message.get("x-folded").split() == ["one", "two"]
    assert message.problems == []


def test_expires_is_relative_again_and_no_later_than_the_senders(
        shared, user):
    bob = user()
    assert shared.ua("alice").message(
        "sip:%s@example.org" % bob, b"x",
        headers=[("Expires", "100")]).code == 202
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert len(message.all("expires")) == 1
    assert 90 <= int(message.get("expires")) <= 100


def test_a_message_without_date_is_delivered_with_the_time_of_its_arrival(
        shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert len(message.all("date")) == 1
    assert message.get("date").endswith(" GMT")
    assert email.utils.parsedate_to_datetime(message.get("date"))


def test_the_call_id_stays_at_redelivery_and_differs_between_messages(
        shared, user):
    bob = user()
    alice = shared.ua("alice")
    for text in (b"1", b"2"):
        assert alice.message("sip:%s@example.org" % bob, text).code == 202
    client = shared.ua(bob)
    client.answers = [486, 503]
    client.register()
    client.wait_messages(4, 15)
    shared.wait_empty(bob)
    assert client.bodies == [b"1", b"1", b"1", b"2"]
    ids = [m.call_id for m in client.messages]
    assert len(set(ids[:3])) == 1
    assert ids[3] != ids[0]
    assert len({m.branch for m in client.messages}) == 4
    tags = [m.get("from").partition(";tag=")[2] for m in client.messages]
    assert all(tags)


def test_a_delivery_goes_through_the_path_of_the_binding(shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    edge = shared.ua("edge")
    edge.contact = "sip:%s@192.0.2.7:5999" % bob  # as seen behind the edge
    client = shared.ua(bob, contact=edge.contact)
    path = "<sip:%s:%d;lr>" % (edge.host, edge.port)
    response = client.register(headers=[("Path", path)])
    assert response.all("path") == [path]
    message = edge.wait_messages(1)[0]
    assert message.uri == edge.contact
    assert message.list("route") == [path]
    assert message.problems == []
    assert message.body == b"x"
    shared.wait_empty(bob)
    assert client.messages == []


def test_a_path_of_two_hops_becomes_two_routes(shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    edge = shared.ua("edge")
    edge.contact = "sip:%s@192.0.2.7:5999" % bob
    paths = ["<sip:%s:%d;lr>" % (edge.host, edge.port),
             "<sip:192.0.2.8;lr>"]
    shared.ua(bob, contact=edge.contact).register(
        headers=[("Path", ", ".join(paths))])
    message = edge.wait_messages(1)[0]
    assert message.list("route") == paths
    assert message.uri == edge.contact
    shared.wait_empty(bob)


def test_a_client_behind_nat_is_reached_where_its_register_came_from(
        shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    client = shared.ua(bob, contact="sip:%s@192.0.2.9:5060" % bob,
                       via=("192.0.2.9", 5060))
    client.register()
    message = client.wait_messages(1)[0]
    assert message.uri == "sip:%s@192.0.2.9:5060" % bob
    assert message.body == b"x"
    assert message.problems == []
    shared.wait_empty(bob)


def test_a_tcp_client_that_listens_is_connected_to(shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    client = shared.ua(bob, transport="tcp", reuse=False)
    client.register()
    assert client.wait_messages(1)[0].problems == []
    shared.wait_empty(bob)


def test_a_large_message_comes_through_unharmed(shared, user):
    bob = user()
    body = bytes(i * 7 % 256 for i in range(50000))
    alice = shared.ua("alice", transport="tcp")
    assert alice.message("sip:%s@example.org" % bob, body,
                         "application/octet-stream").code == 202
    client = shared.ua(bob, transport="tcp")
    client.register()
    assert client.wait_messages(1)[0].body == body
    shared.wait_empty(bob)


def test_a_client_whose_connection_is_gone_loses_nothing(shared, user):
    bob = user()
    client = shared.ua(bob, transport="tcp")
    client.register()
    client.close()
    response = shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    assert response.code == 202
    shared.expect_log(r"tcp|TCP|connect|t_relay|forward|send|branch")
    back = shared.ua(bob, transport="tcp")
    back.register(params=";q=1.0")
    assert back.wait_messages(1, 10)[0].body == b"x"
    shared.wait_empty(bob)


def test_the_socket_on_which_a_client_registered_delivers(shared, user):
    bob = user()
    shared.ua("alice").message("sip:%s@example.org" % bob, b"x")
    client = shared.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.source == ("127.0.0.1", shared.sip_port)
