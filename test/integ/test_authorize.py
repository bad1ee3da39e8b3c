# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may send, who is believed, which headers the recipient sees, and which
clients a message is for."""

import pytest

import databases
from db import ICSI, World, cpim, tag
from harness import wait_until

MSG = ICSI + "msg"
TAGGED = [("P-Preferred-Service", MSG)]


def _world(factory, name, settings=None, defines=None):
    directory = factory.mktemp(name)
    database = databases.Sqlite(str(directory)).create()
    world = World(directory, database, settings, defines)
    world.user("alice")
    return world


@pytest.fixture(scope="module")
def _edge(tmp_path_factory):
    """Clients are next to it: nobody is trusted, a CPM tag is asked for."""
    world = _world(tmp_path_factory, "edge", None, {"REQUIRE_FEATURE_TAG": 1})
    try:
        yield world.start()
    finally:
        world.close()


@pytest.fixture(scope="module")
def _core(tmp_path_factory):
    """It stands in an IMS core, whose word it takes."""
    world = _world(tmp_path_factory, "core",
                   {"trusted_peers": ["192.0.2.0/24", "127.0.0.1"]})
    try:
        yield world.start()
    finally:
        world.close()


def _use(request, world):
    request.node.cpm_stacks = [world.stack]
    world.begin()
    yield world
    world.end()


@pytest.fixture
def edge(request, _edge):
    yield from _use(request, _edge)


@pytest.fixture
def core(request, _core):
    yield from _use(request, _core)


def both_ways(world, name, **message):
    """The same message to a user's client: at once, and from the queue."""
    client = world.client(name)
    assert world.send(name, b"at once", **message).code == 200
    client.register(expires=0)
    assert world.send(name, b"from the queue", **message).code == 202
    client.register()
    messages = client.wait_messages(2)
    assert client.bodies == [b"at once", b"from the queue"]
    assert [m.problems for m in messages] == [[], []]
    return messages


# ------------------------------------------------------------ feature tag


PERCENT = ICSI.replace(":", "%3A")

TAGS = [
    ("in Accept-Contact", "Accept-Contact", "*;" + tag("msg")),
    ("with require and explicit", "Accept-Contact",
     "*;" + tag("msg") + ";require;explicit"),
    ("in the compact form", "a", "*;" + tag("msg")),
    ("in any case", "ACCEPT-CONTACT",
     '*;+G.3GPP.ICSI-REF="%s"' % (PERCENT + "MSG").replace("%3A", "%3a")),
    ("not encoded", "Accept-Contact",
     '*;+g.3gpp.icsi-ref="%s"' % MSG),
    ("in a list of several", "Accept-Contact",
     "*;+x;" + tag("session", "msg")),
    ("of large mode", "Accept-Contact", "*;" + tag("largemsg")),
    ("of a session", "Accept-Contact", "*;" + tag("session")),
    ("in P-Preferred-Service", "P-Preferred-Service", MSG),
    ("in a list of services", "p-preferred-service",
     "urn:urn-7:3gpp-service.ims.icsi.mmtel, " + MSG),
]


@pytest.mark.parametrize("where,name,value", TAGS, ids=[t[0] for t in TAGS])
def test_a_cpm_tag_makes_it_a_cpm_message(edge, user, where, name, value):
    bob = edge.user(user())
    client = edge.client(bob)
    assert edge.send(bob, headers=[(name, value)]).code == 200
    assert len(client.messages) == 1


NO_TAGS = [
    ("none at all", "X-Nothing", "1"),
    ("of another service", "Accept-Contact",
     '*;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"'),
    ("with more at its end", "Accept-Contact", "*;" + tag("msgx")),
    ("with less", "Accept-Contact", "*;" + tag("ms")),
    ("of something below", "Accept-Contact", "*;" + tag("session.groups")),
    ("in another parameter", "Accept-Contact",
     '*;+g.3gpp.iari-ref="%smsg"' % PERCENT),
    ("only to be avoided", "Reject-Contact", "*;" + tag("msg")),
    ("of another service, preferred", "P-Preferred-Service",
     "urn:urn-7:3gpp-service.ims.icsi.mmtel"),
    ("almost preferred", "P-Preferred-Service", MSG + "x"),
    ("asserted by the client itself", "P-Asserted-Service", MSG),
    ("in a comment", "Subject", MSG),
]


@pytest.mark.parametrize("where,name,value", NO_TAGS,
                         ids=[t[0] for t in NO_TAGS])
def test_without_a_cpm_tag_it_is_refused(edge, user, where, name, value):
    bob = edge.user(user())
    client = edge.client(bob)
    response = edge.send(bob, headers=[(name, value)])
    assert response.code == 403
    assert response.get("warning") == \
        '399 example.org "127 Service not authorised"'
    assert client.messages == [] and edge.stack.queue(bob) is None


@pytest.mark.parametrize("headers", [
    [("P-Asserted-Service", MSG)], [("X-Nothing", "1")]])
def test_where_no_tag_is_asked_for_none_is_needed(core, user, headers):
    bob = core.user(user())
    core.client(bob)
    assert core.send(bob, headers=headers).code == 200


# ------------------------------------------------------- asserted service


def test_the_preferred_service_is_asserted_to_the_client(edge, user):
    bob = edge.user(user())
    for message in both_ways(edge, bob, headers=TAGGED):
        assert message.all("p-asserted-service") == [MSG]
        assert message.all("p-preferred-service") == []


def test_of_several_preferred_services_the_one_of_cpm_is_asserted(edge, user):
    bob = edge.user(user())
    for message in both_ways(edge, bob, headers=[
            ("P-Preferred-Service",
             "urn:urn-7:3gpp-service.ims.icsi.mmtel, %s" % MSG)]):
        assert message.all("p-asserted-service") == [MSG]
        assert message.all("p-preferred-service") == []


def test_a_service_that_a_client_asserts_itself_gives_way(edge, user):
    bob = edge.user(user())
    for message in both_ways(edge, bob, headers=TAGGED + [
            ("P-Asserted-Service", ICSI + "systemmsg")]):
        assert message.all("p-asserted-service") == [MSG]


FORGED = [
    ("a service", "P-Asserted-Service", ICSI + "systemmsg"),
    ("an identity", "P-Asserted-Identity", "<sip:president@example.org>"),
]


@pytest.mark.parametrize("what,name,value", FORGED,
                         ids=[f[0] for f in FORGED])
def test_what_a_client_asserts_itself_reaches_no_client_at_once(
        edge, user, what, name, value):
    bob = edge.user(user())
    client = edge.client(bob)
    headers = [("Accept-Contact", "*;" + tag("msg")), (name, value)]
    assert edge.send(bob, headers=headers).code == 200
    assert edge.send(bob, headers=headers + [("Privacy", "id")]).code == 200
    for message in client.wait_messages(2):
        assert message.all(name) == [] and message.problems == []


@pytest.mark.parametrize("what,name,value", FORGED,
                         ids=[f[0] for f in FORGED])
def test_what_a_client_asserts_itself_reaches_no_client_from_the_queue(
        edge, user, what, name, value):
    bob = edge.user(user())
    assert edge.send(bob, headers=[
        ("Accept-Contact", "*;" + tag("msg")), (name, value)]).code == 202
    assert edge.client(bob).wait_messages(1)[0].all(name) == []


def test_a_service_that_the_core_asserts_stays(core, user):
    bob = core.user(user())
    for message in both_ways(core, bob, headers=[
            ("P-Asserted-Service", ICSI + "largemsg")]):
        assert message.all("p-asserted-service") == [ICSI + "largemsg"]


# --------------------------------------------------------------- identity


def test_an_identity_that_a_client_asserts_itself_is_not_believed(edge, user):
    bob = user()
    edge.user(bob, edge.rule(bob, "reject",
                             originator="sip:president@example.org"))
    edge.client(bob)
    pai = [("P-Asserted-Identity", "<sip:president@example.org>")]
    assert edge.send(bob, headers=TAGGED + pai).code == 200
    # nor does it help whom nobody knows
    response = edge.send(bob, sender=user("nobody"), headers=TAGGED + [
        ("P-Asserted-Identity", "<sip:alice@example.org>")])
    assert response.code == 403


def test_an_identity_that_the_core_asserts_is_believed_and_passed_on(
        core, user):
    bob, carol = user(), core.user(user("carol"))
    core.user(bob, core.rule(bob, "reject",
                             originator="sip:%s@example.org" % carol,
                             content_type="text/html"))
    pai = [("P-Asserted-Identity", '"Carol" <sip:%s@example.org>' % carol)]
    assert core.send(bob, content_type="text/html", headers=pai,
                     sender=user("unheard-of")).code == 403
    for message in both_ways(core, bob, headers=pai):
        assert message.all("p-asserted-identity") == [pai[0][1]]
    response = core.send(bob, headers=[
        ("P-Asserted-Identity", "<sip:%s@example.org>" % user("nobody"))])
    assert response.code == 403


def test_the_user_whom_the_core_serves_is_the_sender(core, user):
    bob, carol = user(), core.user(user("carol"))
    core.user(bob, core.rule(bob, "reject",
                             originator="sip:%s@example.org" % carol))
    core.client(bob)
    served = "<sip:%s@example.org>;sescase=%s;regstate=reg"
    assert core.send(bob, headers=[
        ("P-Served-User", served % (carol, "orig"))]).code == 403
    # also one who is in no From, and above what is asserted
    assert core.send(bob, sender=user("nobody"), headers=[
        ("P-Asserted-Identity", "<sip:alice@example.org>"),
        ("P-Served-User", served % (carol, "orig"))]).code == 403
    assert core.send(bob, sender=user("nobody"), headers=[
        ("P-Served-User", served % ("alice", "orig"))]).code == 200
    assert core.send(bob, headers=[
        ("P-Served-User", served % (user("nobody"), "orig"))]).code == 403


def test_orig_in_our_route_makes_the_served_user_the_sender(core, user):
    bob, carol = user(), core.user(user("carol"))
    core.user(bob, core.rule(bob, "reject",
                             originator="sip:%s@example.org" % carol))
    core.client(bob)
    ours = "<sip:%s:%d;%slr>"
    served = ("P-Served-User", "<sip:%s@example.org>" % carol)
    port = core.stack.sip_port
    assert core.send(bob, headers=[
        ("Route", ours % ("127.0.0.1", port, "orig;")), served]).code == 403
    assert core.send(bob, headers=[
        ("Route", ours % ("127.0.0.1", port, "")), served]).code == 200


def test_the_served_user_of_a_terminating_request_is_the_recipient(
        core, user):
    bob = core.user(user())
    client = core.client(bob)
    response = core.send(user("alias"), headers=[
        ("P-Served-User", "<sip:%s@example.org>;sescase=term" % bob)])
    assert response.code == 200
    assert client.bodies == [b"hello"]
    client.register(expires=0)
    assert core.send(user("alias"), headers=[
        ("P-Served-User", "<sip:%s@example.org>;sescase=term" % bob)]
        ).code == 202
    assert core.queued(bob) == [5]


@pytest.mark.parametrize("case", ["orig", "term"])
def test_a_served_user_that_a_client_names_is_nobody(edge, user, case):
    bob, carol = user(), edge.user(user("carol"))
    edge.user(bob, edge.rule(bob, "reject",
                             originator="sip:%s@example.org" % carol))
    client = edge.client(bob)
    served = [("P-Served-User", "<sip:%s@example.org>;sescase=%s"
               % (carol, case)),
              ("Route", "<sip:127.0.0.1:%d;orig;lr>" % edge.stack.sip_port)]
    assert edge.send(bob, headers=TAGGED + served).code == 200
    assert len(client.messages) == 1
    assert edge.send(bob, headers=TAGGED + served,
                     sender=user("nobody")).code == 403
    # what goes to a client says nothing of it (RFC 5502, 6.3)
    assert edge.stack.queue(carol) is None


IDENTITIES = [("from", 200, 403), ("pai", 403, 200), ("pai,from", 200, 200)]


@pytest.mark.parametrize("order,by_from,by_pai", IDENTITIES,
                         ids=[i[0] for i in IDENTITIES])
def test_a_sender_is_known_by_what_the_parameter_names(
        tmp_path, order, by_from, by_pai):
    world = World(tmp_path, databases.Sqlite(str(tmp_path)).create(),
                  {"identity": order, "trusted_peers": "127.0.0.1"})
    try:
        world.user("alice")
        world.user("bob")
        world.start()
        world.client("bob")
        assert world.send("bob").code == by_from
        assert world.send("bob", sender="nobody", headers=[
            ("P-Asserted-Identity", "<sip:alice@example.org>")]
            ).code == by_pai
    finally:
        world.close()


# ---------------------------------------------------------------- privacy


def test_a_withheld_identity_reaches_no_client(core, user):
    bob = core.user(user())
    for message in both_ways(
            core, bob, from_='"Anonymous" <sip:anonymous@anonymous.invalid>',
            headers=[("Privacy", "id"),
                     ("P-Asserted-Identity", "<sip:alice@example.org>"),
                     ("Remote-Party-ID", "<sip:alice@example.org>"),
                     ("P-Preferred-Identity", "<sip:alice@example.org>")]):
        assert message.all("p-asserted-identity") == []
        assert b"alice@example.org" not in message.head
        assert message.get("from").startswith(
            '"Anonymous" <sip:anonymous@anonymous.invalid>')
        assert message.get("privacy") == "id"


def test_a_withheld_identity_reaches_the_isf(core, user):
    bob = user()
    core.user(bob, core.rule(bob, "interwork"))
    pai = "<sip:alice@example.org>"
    assert core.send(bob, headers=[("Privacy", "id"),
                                   ("P-Asserted-Identity", pai)]).code == 200
    message = core.isf.wait_messages(1)[0]
    assert message.all("p-asserted-identity") == [pai]
    assert message.get("privacy") == "id"


def test_a_withheld_identity_reaches_the_isf_after_a_client_failed(
        core, user):
    bob = core.user(user(), when_offline="interwork")
    core.client(bob, answer=480)
    pai = "<sip:alice@example.org>"
    assert core.send(bob, headers=[("Privacy", "id"),
                                   ("P-Asserted-Identity", pai)]).code == 200
    message = core.isf.wait_messages(1)[0]
    assert message.all("p-asserted-identity") == [pai]
    assert message.all("p-called-party-id") == []


def test_what_a_client_asserts_itself_reaches_no_isf_after_a_client_failed(
        edge, user):
    bob = edge.user(user(), when_offline="interwork")
    edge.client(bob, answer=480)
    assert edge.send(bob, headers=TAGGED + [
        ("Privacy", "id"), ("P-Preferred-Identity", "<sip:a@example.org>"),
        ("P-Asserted-Identity", "<sip:president@example.org>")]).code == 200
    message = edge.isf.wait_messages(1)[0]
    assert message.all("p-asserted-identity") == []
    assert message.all("p-preferred-identity") == ["<sip:a@example.org>"]
    assert message.all("p-asserted-service") == [MSG]
    assert message.all("p-called-party-id") == []
    assert message.problems == []


def test_a_withheld_identity_reaches_no_client_after_another_failed(
        core, user):
    bob = core.user(user(), when_offline="interwork")
    second = core.stack.ua(bob)

    def fail(message):
        second.register()
        return 480

    first = core.client(bob, answer=fail)
    assert core.send(bob, headers=[
        ("Privacy", "id"),
        ("P-Asserted-Identity", "<sip:alice@example.org>")]).code == 200
    for client in (first, second):
        message = client.wait_messages(1)[0]
        assert message.all("p-asserted-identity") == []
        assert message.all("p-called-party-id") == [
            "<sip:%s@example.org>" % bob]
        assert message.problems == [] and len(client.messages) == 1
    assert core.isf.messages == []


def test_privacy_none_withholds_nothing(core, user):
    bob = core.user(user())
    pai = "<sip:alice@example.org>"
    for message in both_ways(core, bob, headers=[
            ("Privacy", "none"), ("P-Asserted-Identity", pai)]):
        assert message.all("p-asserted-identity") == [pai]


# ---------------------------------------------- what a policy can ask for


def test_conversation_and_contribution_id_are_asked_for_by_policy(edge, user):
    bob, sender, kind = edge.user(user()), user("sender"), user("class")
    edge.user(sender, edge.policy(kind, require_ids=1), service_class=kind)
    client = edge.client(bob)
    ids = [("Conversation-ID", "c1"), ("Contribution-ID", "c2")]
    for headers, reason in ((ids[1:], "Missing Conversation-ID"),
                            (ids[:1], "Missing Contribution-ID")):
        response = edge.send(bob, headers=TAGGED + headers, sender=sender)
        assert (response.code, response.reason) == (400, reason)
    assert client.messages == [] and edge.stack.queue(bob) is None
    assert edge.send(bob, headers=TAGGED + ids, sender=sender).code == 200


def test_reply_to_and_the_ids_arrive_as_they_were_sent(edge, user):
    bob = edge.user(user())
    kept = [("Reply-To", '"Office" <sip:office@example.org>'),
            ("Conversation-ID", "f81d4fae-7dec-11d0-A765-00a0c91e6bf6"),
            ("Contribution-ID", "abcdef-1234-5678-90AB-CDEF01234567"),
            ("InReplyTo-Contribution-ID", "01234567-89ab-cdef")]
    body = cpim(b"hello", message_id=user("id"))
    client = edge.client(bob)
    assert edge.send(bob, body, "message/cpim", TAGGED + kept).code == 200
    client.register(expires=0)
    assert edge.send(bob, body, "message/cpim", TAGGED + kept).code == 202
    client.register()
    for message in client.wait_messages(2):
        assert message.body == body
        assert message.get("content-type") == "message/cpim"
        for name, value in kept:
            assert message.all(name) == [value]


# ------------------------------------------------------ P-Called-Party-ID


def test_the_client_is_told_which_address_was_called(edge, user):
    bob = edge.user(user())
    for message in both_ways(edge, bob, headers=TAGGED):
        assert message.all("p-called-party-id") == [
            "<sip:%s@example.org>" % bob]


def test_the_called_address_is_the_request_uri_as_it_came(edge, user):
    bob = edge.user(user())
    client = edge.client(bob)
    uri = "sip:%s@EXAMPLE.org;user=phone" % bob
    assert edge.send(uri, headers=TAGGED).code == 200
    assert client.messages[0].all("p-called-party-id") == ["<%s>" % uri]


def test_every_client_is_told_the_called_address_once(edge, user):
    bob = edge.user(user())
    first = edge.client(bob, answer=None)
    second = edge.client(bob, answer=480)
    assert edge.send(bob, headers=TAGGED).code == 202
    for client in (first, second):
        for message in client.messages:
            assert message.all("p-called-party-id") == [
                "<sip:%s@example.org>" % bob]


def test_what_the_core_said_of_the_called_address_stays(core, user):
    bob = core.user(user())
    client = core.client(bob)
    called = "<sip:office@example.org>"
    assert core.send(bob, headers=[("P-Called-Party-ID", called)]).code == 200
    assert client.messages[0].all("p-called-party-id") == [called]


def test_where_the_core_says_it_we_do_not(tmp_path):
    world = World(tmp_path, None, {"insert_called_party_id": 0}).start()
    try:
        for message in both_ways(world, "bob"):
            assert message.all("p-called-party-id") == []
    finally:
        world.close()


# ---------------------------------------------------------- tel: numbers


def test_a_number_is_the_sip_user_of_that_name(edge, user):
    bob = edge.user("+1555%07d" % int(user("")))
    client = edge.client(bob)
    assert edge.send("sip:%s@example.org;user=phone" % bob,
                     headers=TAGGED).code == 200
    assert len(client.messages) == 1


def test_a_tel_uri_is_the_sip_user_of_that_number(tmp_path):
    world = World(tmp_path, databases.Sqlite(str(tmp_path)).create()).start()
    try:
        world.user("alice")
        world.user("+15551234")
        client = world.client("+15551234")
        assert world.send("tel:+1-555-1234").code == 200
        assert client.messages[0].all("p-called-party-id") == [
            "<tel:+1-555-1234>"]
        client.register(expires=0)
        assert world.send("tel:+15551234").code == 202
        assert world.queued("+15551234") == [5]
    finally:
        world.close()


def test_a_rule_about_numbers_holds_for_who_sends_from_one(core, user):
    bob = user()
    core.user(bob, core.rule(bob, "reject", originator="tel:+44*"))
    number = core.user("+44%07d" % int(user("")))
    core.client(bob)
    assert core.send(bob, headers=[
        ("P-Asserted-Identity", "<tel:%s>" % number)]).code == 403
    assert core.send(bob).code == 200


# ----------------------------------------------- which clients it is for


TAKES = [
    ("says nothing", ""),
    ("says pager mode", ";" + tag("msg")),
    ("says it among others", ";" + tag("session", "MSG", "largemsg")),
    ("says RCS pager mode", ";+g.gsma.rcs.cpm.pager-large"),
    ("says chat and pager mode", ";+g.oma.sip-im;" + tag("msg")),
    ("says something else", ";audio;video;+sip.rendering"),
]

TAKES_NOT = [
    ("says chat only", {"params": ";+g.oma.sip-im"}),
    ("says sessions only", {"params": ";" + tag("session", "filetransfer")}),
    ("says large mode only", {"params": ";" + tag("largemsg")}),
    ("allows other methods in Contact",
     {"params": ';methods="INVITE,ACK,BYE,CANCEL"'}),
    ("allows other methods in Allow",
     {"headers": [("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS")]}),
]


@pytest.mark.parametrize("what,params", TAKES, ids=[t[0] for t in TAKES])
def test_a_client_gets_messages_at_once_that(edge, user, what, params):
    bob = edge.user(user())
    client = edge.client(bob, params)
    assert edge.send(bob, headers=TAGGED).code == 200
    assert client.bodies == [b"hello"]


@pytest.mark.parametrize("what,register", TAKES_NOT,
                         ids=[t[0] for t in TAKES_NOT])
def test_a_client_gets_nothing_at_once_that(edge, user, what, register):
    bob = edge.user(user())
    edge.client(bob, answer=None, **register)
    assert edge.send(bob, headers=TAGGED).code == 202
    assert edge.queued(bob) == [5]


@pytest.mark.parametrize("what,register", TAKES_NOT,
                         ids=[t[0] for t in TAKES_NOT])
def test_a_client_gets_no_message_from_the_queue_either_that(
        edge, user, what, register):
    bob = edge.user(user())
    client = edge.client(bob, **register)
    assert edge.send(bob, headers=TAGGED).code == 202
    edge.settle(user("canary"), client, headers=TAGGED)
    assert client.messages == []
    assert edge.queued(bob) == [5]


def test_of_two_clients_the_one_that_takes_messages_gets_it(edge, user):
    bob = edge.user(user())
    chat = edge.client(bob, ";+g.oma.sip-im")
    pager = edge.client(bob, ";" + tag("msg"))
    assert edge.send(bob, headers=TAGGED).code == 200
    assert edge.send(bob, headers=TAGGED).code == 200
    assert len(pager.wait_messages(2)) == 2
    assert chat.messages == []


def test_what_a_client_is_capable_of_changes_with_its_next_register(
        edge, user):
    bob = edge.user(user())
    client = edge.client(bob, ";+g.oma.sip-im")
    client.register(params=";+g.oma.sip-im;" + tag("msg"))
    assert edge.send(bob, headers=TAGGED).code == 200
    client.register(params=";" + tag("session"))
    client.answer = None
    assert edge.send(bob, headers=TAGGED).code == 202
    wait_until(lambda: edge.queued(bob), 5)


def test_two_services_ask_for_two_sizes(edge, user):
    bob, kind = user(), user("class")
    edge.user(bob, edge.policy(kind, deliver_max_size="msg=10,largemsg=100"),
              service_class=kind)
    pager = edge.client(bob, ";" + tag("msg"))
    large = edge.client(bob, ";" + tag("msg", "largemsg"))
    assert edge.send(bob, b"x" * 10, headers=TAGGED).code == 200
    pager.wait_messages(1)
    large.wait_messages(1)
    assert edge.send(bob, b"y" * 11, headers=TAGGED).code == 200
    assert edge.send(bob, b"z" * 10, headers=TAGGED).code == 200
    large.wait_messages(3)
    pager.wait_messages(2)
    assert [len(b) for b in large.bodies] == [10, 11, 10]
    assert [len(b) for b in pager.bodies] == [10, 10]
