# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be queued is refused with a reason, wholly, and harms nothing."""

import pytest

TYPE = ("Content-Type", "text/plain")
CPIM = ("Content-Type", "message/cpim")
GOOD_CPIM = (b"From: <sip:alice@example.org>\r\nTo: <sip:bob@example.org>\r\n"
             b"NS: imdn <urn:ietf:params:imdn>\r\n%s\r\n"
             b"Content-Type: text/plain\r\n\r\nhello")

# what it is, Request-URI, headers, body, code
REFUSED = [
    ("a CPIM without an empty line", "sip:%s@example.org", [CPIM],
     b"From: <sip:alice@example.org>", 400),
    ("a CPIM that is noise", "sip:%s@example.org", [CPIM],
     b"\0\1\2\xff" * 10, 400),
    ("a CPIM of one empty line", "sip:%s@example.org", [CPIM], b"\r\n", 400),
    ("a body over message_max_bytes", "sip:%s@example.org", [TYPE],
     b"x" * 60001, 413),
    ("a Request-URI without user", "sip:example.org", [TYPE], b"x", 400),
    ("another domain's user", "sip:%s@127.0.0.1:PORT", [TYPE], b"x", 404),
    ("an empty body", "sip:%s@example.org", [TYPE], b"", 400),
    ("a body without Content-Type", "sip:%s@example.org", [], b"x", 400),
    ("Expires: 0", "sip:%s@example.org", [TYPE, ("Expires", "0")], b"x", 480),
    ("an Expires of letters", "sip:%s@example.org",
     [TYPE, ("Expires", "soon")], b"x", 400),
    ("a negative Expires", "sip:%s@example.org",
     [TYPE, ("Expires", "-5")], b"x", 400),
]

ACCEPTED = [
    ("a Message-ID of two thousand characters", [CPIM],
     GOOD_CPIM % (b"imdn.Message-ID: " + b"m" * 2000 + b"\r\n")),
    ("a Message-ID with spaces", [CPIM],
     GOOD_CPIM % b"imdn.Message-ID: a b c\r\n"),
    ("an NS without space", [CPIM],
     GOOD_CPIM.replace(b"imdn <", b"imdn<") % b"imdn.Message-ID: m1\r\n"),
    ("a CPIM without Message-ID", [CPIM], GOOD_CPIM % b""),
    ("an encoded CPIM, which nobody can look into",
     [CPIM, ("Content-Encoding", "deflate")], b"\x78\x9c\x03\0\0\0\0\x01"),
    ("an Expires of centuries", [TYPE, ("Expires", "4294967295")], b"x"),
    ("a body of exactly message_max_bytes", [TYPE], b"x" * 60000),
    ("a Date that is none", [TYPE, ("Date", "yesterday"), ("Expires", "60")],
     b"x"),
    ("a From without display name and brackets",
     [TYPE, ("From", "sip:alice@example.org;tag=1")], b"x"),
    ("a tel URI in From",
     [TYPE, ("From", "<tel:+15551234;phone-context=x>;tag=1")], b"x"),
    ("an anonymous From",
     [TYPE, ("From", '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1')],
     b"x"),
]


@pytest.fixture(scope="module")
def _small(tmp_path_factory):
    import harness
    stack = harness.Stack(tmp_path_factory.mktemp("small"),
                          {"message_max_bytes": 60000})
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def small(request, _small):
    request.node.cpm_stacks = [_small]
    _small.expected = []
    _small.restart_if_dead()
    yield _small
    _small.close_uas()
    _small.check_log()


def next_one_is_fine(stack, user):
    carol = user("carol")
    assert stack.ua("alice").message(
        "sip:%s@example.org" % carol, b"fine").code == 202
    client = stack.ua(carol)
    client.register()
    assert client.wait_messages(1)[0].body == b"fine"
    stack.wait_empty(carol)


@pytest.mark.parametrize("what,uri,headers,body,code", REFUSED,
                         ids=[r[0] for r in REFUSED])
def test_refused(small, user, what, uri, headers, body, code):
    bob = user()
    alice = small.ua("alice")
    uri = uri.replace("%s", bob).replace("PORT", str(small.sip_port))
    before = small.metric("queued")
    response = alice.request("MESSAGE", uri, headers, body)
    assert response.code == code
    assert small.queue(bob) is None
    assert small.metric("queued") == before
    next_one_is_fine(small, user)


@pytest.mark.parametrize("what,headers,body", ACCEPTED,
                         ids=[r[0] for r in ACCEPTED])
def test_accepted(small, user, what, headers, body):
    bob = user()
    response = small.ua("alice").request(
        "MESSAGE", "sip:%s@example.org" % bob, headers, body)
    assert response.code == 202
    items = small.items(bob)
    assert len(items) == 1
    assert 0 < len(items[0]["id"]) <= 128
    client = small.ua(bob)
    client.register()
    message = client.wait_messages(1)[0]
    assert message.body == body
    assert message.problems == []
    small.wait_empty(bob)


def test_noise_on_the_socket_harms_nothing(small, user):
    small.expect_log(r"parse|sanity|bad|ERROR: <core>|WARNING: <core>|"
                     r"CRITICAL: <core>")
    alice = small.ua("alice")
    good = alice.build("MESSAGE", "sip:nobody@example.org", [TYPE], b"body")
    for raw in (b"MESSAGE", b"\0" * 2000, b"MESSAGE sip:x SIP/2.0\r\n\r\n",
                good.replace(b"Content-Length: 4", b"Content-Length: 400"),
                good.replace(b"Content-Length: 4", b"Content-Length: -1"),
                good.replace(b"From:", b"Form:"), good[:100],
                good.replace(b"CSeq: 1 MESSAGE", b"CSeq: x"),
                good.replace(b"sip:nobody@example.org", b"sip:@", 1),
                good.replace(b"text/plain", b"")):
        alice.send_raw(raw)
    next_one_is_fine(small, user)


def test_too_many_header_bytes_are_refused_or_kept(small, user):
    bob = user()
    alice = small.ua("alice")
    headers = [TYPE] + [("X-%d" % i, "y" * 1000) for i in range(40)]
    response = alice.request("MESSAGE", "sip:%s@example.org" % bob, headers,
                             b"x")
    assert response.code == 413
    assert small.queue(bob) is None
    next_one_is_fine(small, user)


def test_a_full_queue_refuses_by_number_and_takes_again_when_emptied(
        new_stack):
    stack = new_stack({"queue_max_messages": 3}).start()
    alice = stack.ua("alice")
    for i in range(3):
        assert alice.message("sip:bob@example.org", b"%d" % i).code == 202
    response = alice.message("sip:bob@example.org", b"too many")
    assert response.code == 480
    assert stack.queue("bob")["messages"] == 3
    assert stack.metric("quota_refused") == 1
    assert stack.metric("queued") == 3
    # somebody else's queue has room
    assert alice.message("sip:carol@example.org", b"x").code == 202
    bob = stack.ua("bob")
    bob.register()
    bob.wait_messages(3)
    stack.wait_empty("bob")
    bob.register(expires=0)
    assert alice.message("sip:bob@example.org", b"again").code == 202


def test_a_full_queue_refuses_by_bytes(new_stack):
    stack = new_stack({"queue_max_bytes": 10000}).start()
    alice = stack.ua("alice")
    assert alice.message("sip:bob@example.org", b"x" * 6000).code == 202
    assert alice.message("sip:bob@example.org", b"y" * 6000).code == 480
    assert alice.message("sip:bob@example.org", b"z" * 100).code == 202
    assert stack.queue("bob")["messages"] == 2
    assert stack.metric("quota_refused") == 1


def test_a_retransmission_to_a_full_queue_is_still_a_202(new_stack):
    stack = new_stack({"queue_max_messages": 1}).start()
    alice = stack.ua("alice")
    raw = alice.build("MESSAGE", "sip:bob@example.org", [TYPE], b"x")
    assert alice.transact(raw).code == 202
    assert alice.transact(raw).code == 202
    assert alice.message("sip:bob@example.org", b"y").code == 480
    assert stack.queue("bob")["messages"] == 1


def test_queued_code_200_is_given_where_it_is_configured(new_stack):
    stack = new_stack({"queued_code": 200}).start()
    response = stack.ua("alice").message("sip:bob@example.org", b"x")
    assert (response.code, response.reason) == (200, "OK")
