# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A user who wants to be told what is queued: NOTIFY to registered clients,
without a subscription."""

import email.utils
import itertools
import re
import xml.etree.ElementTree as ET

import pytest

import databases
import sipua
from db import World, cpim, tag
from harness import DOMAIN, HOST, SHUTDOWN, wait_until

SUMMARY = "application/simple-message-summary"
HISTORY = "application/vnd.oma.im.deferred-list+xml"
HISTORY_NS = "{urn:oma:xml:im:history-list}"
OWN_NS = "{urn:cpm-pf:notify:1}"
PHONE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"

# A client that takes sessions and no pager mode: what comes is queued, and not
# relayed, while it is registered.
FETCHES = ";" + tag("deferred")

_ids = itertools.count(1)


class Summary:
    """A body of message-summary, read strictly by RFC 3842, 5.2."""

    def __init__(self, notify):
        assert notify.problems == []
        assert notify.get("event") == "message-summary"
        assert notify.get("content-type") == SUMMARY
        text = notify.body.decode("utf-8")
        assert "\r" not in text.replace("\r\n", "")
        assert "\n" not in text.replace("\r\n", "")
        assert text.endswith("\r\n")
        head, *blocks = text[:-2].split("\r\n\r\n")
        lines = head.split("\r\n")
        self.waiting = {"Messages-Waiting: yes": True,
                        "Messages-Waiting: no": False}[lines[0]]
        self.account = re.fullmatch(r"Message-Account: (\S+)", lines[1])[1]
        self.new, self.old = map(int, re.fullmatch(
            r"pager-message: (\d+)/(\d+) \(0/0\)", lines[2]).groups())
        assert len(lines) == 3
        self.blocks = []
        for block in blocks:
            pairs = [re.fullmatch(r"([A-Za-z-]+): (\S(?:.*\S)?)", line)
                     for line in block.split("\r\n")]
            assert all(pairs), block
            self.blocks.append({p[1]: p[2] for p in pairs})
            assert len(self.blocks[-1]) == len(pairs), "a header is twice"
        self.ids = [b["Message-ID"] for b in self.blocks]


@pytest.fixture(scope="module")
def _world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("notify")
    world = World(directory, databases.Sqlite(str(directory)).create(),
                  {"notify_delay_ms": 200})
    try:
        world.user("alice")
        yield world.start()
    finally:
        world.close()


@pytest.fixture
def own_world(request, tmp_path):
    """A world with settings of the test's own."""
    worlds = []

    def make(settings=None, cfg_edit=None):
        world = World(tmp_path, databases.Sqlite(str(tmp_path)).create(),
                      dict({"notify_delay_ms": 200}, **(settings or {})))
        if cfg_edit:
            path = str(tmp_path / "edited.cfg")
            with open(world.stack.cfg) as f:
                text = f.read()
            assert cfg_edit[0] in text
            with open(path, "w") as f:
                f.write(text.replace(*cfg_edit))
            world.stack.cfg = path
        worlds.append(world)
        request.node.cpm_stacks = [world.stack]
        world.user("alice")
        return world.start()

    yield make
    for world in worlds:
        world.close()


def teller(world, name, *more, **columns):
    """A user who wants to be told."""
    return world.user(name, *more, **dict({"queue_mode": "notify"}, **columns))


def put(world, to, subject=None, body=b"hello", **kw):
    """Queues one message: its id."""
    id_ = "id-%d" % next(_ids)
    headers = list(kw.pop("headers", []))
    if subject is not None:
        headers.append(("Subject", subject))
    response = world.send(to, cpim(body, message_id=id_), "message/cpim",
                          headers, **kw)
    assert response.code == 202, response
    return id_


def notified(client, count=1, timeout=10.0):
    """The first so many NOTIFY requests; nothing else may have come."""
    got = client.wait_messages(count, timeout)
    assert [m.method for m in got] == ["NOTIFY"] * len(got)
    return got


def wait_summary(client, good, timeout=10.0):
    """The last summary, once it is as it should be."""
    client.wait(lambda: client.messages
                and client.messages[-1].method == "NOTIFY"
                and good(Summary(client.messages[-1])), timeout, "that NOTIFY")
    return Summary(client.messages[-1])


def settle(world, user, *clients):
    """Until what has happened so far was told, to these clients too: users are
    told in the order in which they were to be, and this one is the last."""
    canary = teller(world, user("canary"))
    put(world, canary)
    notified(world.client(canary, FETCHES))
    for client in clients:
        client.request("OPTIONS", "sip:%s:%d" % (HOST, world.stack.sip_port))


def flush(stack, name, mode):
    """cpm_flush_queue(aor, mode), by the route that FLUSH adds."""
    with sipua.UA("op", DOMAIN, (HOST, stack.sip_port)) as ua:
        return ua.request("OPTIONS", "sip:%s:%d" % (HOST, stack.sip_port), [
            ("X-Flush", "sip:%s@%s" % (name, DOMAIN)), ("X-Mode", mode)])


FLUSH = ("request_route {\n", """
event_route[cpm_pf:notify] {
	xlog("L_NOTICE", "told user=$cpm(user) code=$cpm(code) why=$cpm(why)"
		" size=$cpm(queue_size)\\n");
}

request_route {
	if(is_method("OPTIONS") && is_present_hf("X-Flush")) {
		cpm_flush_queue("$hdr(X-Flush)", "$hdr(X-Mode)");
		sl_send_reply("200", "flush $rc");
		exit;
	}
""")


# ------------------------------------------------------------ what is told


def test_what_is_queued_while_a_client_is_registered_is_told_to_it(
        world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    id_ = put(world, bob, "Lunch?", b"at noon",
              headers=[("Conversation-ID", "conv-1"),
                       ("Contribution-ID", "contr-1"), ("Expires", "3600")])
    notify, = notified(client)
    s = Summary(notify)
    assert (s.waiting, s.new, s.old) == (True, 1, 0)
    assert s.account == "sip:%s@example.org" % bob
    block, = s.blocks
    assert block["From"] == "<sip:alice@example.org>"
    assert block["To"] == "<sip:%s@example.org>" % bob
    assert block["Subject"] == "Lunch?"
    assert block["Message-ID"] == id_
    item, = world.stack.items(bob)
    assert item["id"] == id_
    assert int(block["Content-Length"]) == item["size"]
    assert (block["Conversation-ID"], block["Contribution-ID"]) == (
        "conv-1", "contr-1")
    date, expires = (email.utils.parsedate_to_datetime(block[n]).timestamp()
                     for n in ("Date", "Expires"))
    assert abs(expires - date - 3600) <= 1
    assert b"noon" not in notify.raw
    assert world.queued(bob) == [item["size"]]


def test_the_request_is_one_that_a_client_can_take(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob)
    notify, = notified(client)
    aor = "sip:%s@example.org" % bob
    assert notify.uri == client.contact
    assert sipua.uri_of(notify.get("from")) == aor
    assert notify.get("to") == "<%s>" % aor
    assert notify.get("subscription-state") == "terminated;reason=timeout"
    assert notify.get("p-called-party-id") == "<%s>" % aor
    contact, = notify.list("contact")
    assert sipua.uri_of(contact) == "sip:cpm@%s:%d" % (
        HOST, world.stack.sip_port)
    assert len(notify.raw) <= 1200


def test_who_registers_with_something_queued_is_told_and_nothing_is_brought(
        world, user):
    bob = teller(world, user())
    ids = [put(world, bob, "one"), put(world, bob, "two")]
    client = world.client(bob, ";" + tag("msg", "deferred"))
    s = Summary(notified(client)[0])
    assert (s.new, s.old) == (2, 0)
    assert s.ids == ids[::-1]
    settle(world, user, client)
    assert len(client.messages) == 1
    assert len(world.queued(bob)) == 2


def test_who_registers_with_nothing_queued_is_not_told(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    settle(world, user, client)
    assert client.messages == []


def test_a_burst_of_20_is_told_in_at_most_two_requests(own_world, user):
    world = own_world({"notify_delay_ms": 1000})
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    for i in range(20):
        put(world, bob, "number %d" % i)
    s = wait_summary(client, lambda s: s.new == 20)
    assert len(client.messages) <= 2
    assert s.blocks[0]["Subject"] == "number 19"


def test_total_is_right_where_not_all_blocks_have_room(world, user):
    bob = teller(world, user())
    ids = [put(world, bob, "s" * 100) for _ in range(40)]
    client = world.client(bob, FETCHES)
    notify, = notified(client)
    s = Summary(notify)
    assert s.new == 40
    assert 0 < len(s.blocks) < 40
    assert s.ids == ids[::-1][:len(s.ids)]
    assert len(notify.raw) <= 1200


def test_more_is_told_where_more_may_be(own_world, user):
    world = own_world({"notify_max_bytes": 32768})
    bob = teller(world, user())
    ids = [put(world, bob, "s" * 50) for _ in range(40)]
    client = world.client(bob, FETCHES, transport="tcp")
    assert Summary(notified(client)[0]).ids == ids[::-1]


@pytest.mark.parametrize("kw", [
    {"headers": [("Privacy", "id")]},
    {"headers": [("Privacy", "user")],
     "from_": '"Anonymous" <sip:anonymous@anonymous.invalid>'}])
def test_a_withheld_identity_is_in_no_byte(world, user, kw):
    bob, secret = teller(world, user()), user("sneaky")
    world.user(secret)
    client = world.client(bob, FETCHES)
    kw = dict(kw, headers=kw["headers"] + [
        ("Conversation-ID", "c@%s.example" % secret)])
    put(world, bob, "guess who", sender=secret, **kw)
    notify, = notified(client)
    assert secret.encode() not in notify.raw
    block, = Summary(notify).blocks
    assert sipua.uri_of(block["From"]) == "sip:anonymous@anonymous.invalid"
    assert block["Subject"] == "guess who"


@pytest.mark.parametrize("fields,names", [
    ("", {"From", "To", "Subject", "Date", "Expires", "Message-ID",
          "Content-Length", "Conversation-ID"}),
    ("id", {"Message-ID"}),
    ("from, SIZE", {"From", "Content-Length", "Message-ID"}),
    ("subject,nonsense", {"Subject", "Message-ID"}),
    ("nonsense", {"Message-ID"}),
    ("to,date,conversation",
     {"To", "Date", "Expires", "Conversation-ID", "Message-ID"})])
def test_the_provider_says_which_fields_are_told(world, user, fields, names):
    klass = user("class")
    bob = teller(world, user(), world.policy(klass, notify_fields=fields),
                 service_class=klass)
    client = world.client(bob, FETCHES)
    put(world, bob, "hush", headers=[("Conversation-ID", "c1")])
    block, = Summary(notified(client)[0]).blocks
    assert set(block) == names


HOSTILE = [
    ("markup", "<script>alert(1)</script>&amp;]]>"),
    ("long", "x" * 10000),
    ("latin-1", b"caf\xe9 \xff\xfe \xc0\xaf".decode("latin-1")),
    ("controls", "a\x01b\x1b[2Jc\x7fd\tend"),
    ("folded", "one\r\n two\r\n\tthree"),
    ("separators", "a\u2028b\u0085c\u202ed"),
    ("wide", "\U0001f600" * 100),
    ("header", "x\r\n Messages-Waiting: no"),
]


@pytest.mark.parametrize("event", ["message-summary", "deferred-messages"])
def test_a_hostile_subject_breaks_nothing(own_world, user, event):
    world = own_world({"notify_event": event, "notify_max_bytes": 32768})
    bob = teller(world, user())
    for name, subject in HOSTILE:
        raw = subject
        if name == "latin-1":
            raw = subject.encode("latin-1").decode("utf-8", "surrogateescape")
        put(world, bob, raw)
    client = world.client(bob, FETCHES, transport="tcp")
    notify, = notified(client)
    assert notify.problems == []
    notify.body.decode("utf-8")
    if event == "message-summary":
        s = Summary(notify)
        assert (s.waiting, s.new) == (True, len(HOSTILE))
        subjects = [b["Subject"] for b in reversed(s.blocks)]
    else:
        root = ET.fromstring(notify.body)
        assert len(root) == len(HOSTILE)
        subjects = [h.findtext(HISTORY_NS + "subject")
                    for h in reversed(list(root))]
    told = dict(zip((n for n, _ in HOSTILE), subjects))
    assert told["markup"] == HOSTILE[0][1]
    assert told["long"] == "x" * 120
    assert told["latin-1"] == "caf? ?? ??"
    assert told["controls"] == "a b [2Jc d end"
    assert told["folded"] == "one two three"
    assert told["separators"] == "a b c d"
    assert told["wide"] == "\U0001f600" * 30
    assert told["header"] == "x Messages-Waiting: no"


def test_a_hostile_from_is_told_as_one_line(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob, from_='"%s" <sip:alice@example.org>' % ("n" * 2000))
    put(world, bob, from_='"<script>\t\x02" <sip:alice@example.org>')
    s = wait_summary(client, lambda s: s.new == 2)
    assert s.blocks[0]["From"] == '"<script> " <sip:alice@example.org>'
    # half a name-addr is none: by who it is known to be
    assert s.blocks[1]["From"] == "<sip:alice@example.org>"


def test_the_other_package_is_a_list_in_xml(own_world, user):
    world = own_world({"notify_event": "deferred-messages"})
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    id_ = put(world, bob, "Fish & <chips>", headers=[
        ("Conversation-ID", "c<1>"), ("Contribution-ID", "c2")],
        from_='"A" <sip:alice@example.org>')
    notify, = notified(client)
    assert notify.get("event") == "deferred-messages"
    assert notify.get("content-type") == HISTORY
    root = ET.fromstring(notify.body)
    assert root.tag == HISTORY_NS + "history-list"
    assert {n: root.get(OWN_NS + n) for n in ("messages", "new", "old")} == {
        "messages": "1", "new": "1", "old": "0"}
    history, = root
    assert [e.tag.replace(HISTORY_NS, "") for e in history] == [
        "size", "expiry", "subject", "date", "history-reference", "pager"]
    assert history.get(OWN_NS + "conversation-id") == "c<1>"
    assert history.get(OWN_NS + "contribution-id") == "c2"

    def text(path):
        return history.findtext("/".join(
            HISTORY_NS + p for p in path.split("/")))
    assert text("subject") == "Fish & <chips>"
    assert text("history-reference") == id_
    assert int(text("size")) == world.stack.items(bob)[0]["size"]
    assert text("pager/from") == "sip:alice@example.org"
    assert text("pager/to") == "sip:%s@example.org" % bob
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
                        text("pager/time-stamp"))


# ------------------------------------------------------------ who is told


def test_only_clients_that_allow_notify_are_told(world, user):
    bob = teller(world, user())
    put(world, bob)
    deaf = world.client(bob, FETCHES + ';methods="INVITE,MESSAGE,ACK,BYE"')
    client = world.client(bob, FETCHES + ';methods="INVITE,MESSAGE,NOTIFY"')
    notified(client)
    settle(world, user, deaf)
    assert deaf.messages == []


def test_each_client_of_the_user_is_told(world, user):
    bob = teller(world, user())
    clients = [world.client(bob, FETCHES) for _ in range(3)]
    id_ = put(world, bob)
    for client in clients:
        assert Summary(notified(client)[0]).ids == [id_]
    assert len({c.messages[0].call_id for c in clients}) == 3


@pytest.mark.parametrize("action,columns,told", [
    ("defer", {}, False), ("reject", {}, False), ("store", {}, False),
    ("queue", {}, True), ("deliver", {}, True),
    ("defer", {"originator": "sip:carol@example.org"}, True),
    ("defer", {"valid_until": 1000000000}, True)])
def test_a_rule_that_keeps_all_from_a_device_keeps_notifications_from_it(
        world, user, action, columns, told):
    name = user()
    bob = teller(world, name, world.rule(
        name, action, device=PHONE, priority=1, **columns))
    phone = world.client(bob, FETCHES, instance=PHONE)
    other = world.client(bob, FETCHES)
    put(world, bob)
    notified(other)
    settle(world, user, phone)
    assert len(phone.messages) == told


def test_a_client_whose_connection_is_gone_is_not_told(world, user):
    bob = teller(world, user())
    gone = world.client(bob, FETCHES, transport="tcp")
    client = world.client(bob, FETCHES)
    gone.close()
    put(world, bob)
    notified(client)
    settle(world, user, client)
    failed = world.stack.metric("notify_failed")
    put(world, bob)
    wait_summary(client, lambda s: s.new == 2)
    assert world.stack.metric("notify_failed") == failed


def test_a_user_of_mode_push_gets_the_message_and_no_notification(
        world, user):
    bob = world.user(user())
    put(world, bob)
    client = world.client(bob, ";" + tag("msg", "deferred"))
    client.wait_messages(1)
    assert client.messages[0].method == "MESSAGE"
    settle(world, user, client)
    assert len(client.messages) == 1


def test_who_is_to_be_asked_is_told_and_hears_when_nothing_is_left(
        world, user):
    name = user()
    bob = world.user(name, world.rule(name, "queue", priority=1,
                                      originator="sip:alice@example.org"))
    client = world.client(bob, ";" + tag("msg"))
    settle(world, user, client)  # its registration is no news any more
    id_ = put(world, bob)
    assert Summary(notified(client)[0]).ids == [id_]
    # it is brought when a client registers, and that is no news to that one
    other = world.client(bob, ";" + tag("msg"))
    wait_until(lambda: world.stack.queue(bob) is None)
    s = wait_summary(client, lambda s: not s.waiting)
    assert (s.new, s.old, s.blocks) == (0, 0, [])
    settle(world, user, other)
    assert "NOTIFY" not in [m.method for m in other.messages]


def test_where_it_is_switched_off_nobody_is_told(own_world, user):
    world = own_world({"notify_unsolicited": 0})
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob)
    carol = world.user(user("carol"))
    put(world, carol)
    world.client(carol, ";" + tag("msg", "deferred")).wait_messages(1)
    client.request("OPTIONS", "sip:%s:%d" % (HOST, world.stack.sip_port))
    assert client.messages == []
    assert len(world.queued(bob)) == 1


# ------------------------------------------------------- again, and no more


def test_a_refresh_is_not_told_again_but_a_new_client_is(world, user):
    bob = teller(world, user())
    put(world, bob)
    client = world.client(bob, FETCHES)
    notified(client)
    for _ in range(3):
        client.register(params=FETCHES)
        settle(world, user, client)
    assert len(client.messages) == 1
    other = world.client(bob, FETCHES)
    notified(other)
    settle(world, user, client)
    assert len(client.messages) == 1


def test_a_client_that_starts_again_at_its_old_address_is_told_again(
        world, user):
    bob = teller(world, user())
    put(world, bob)
    client = world.client(bob, FETCHES)
    notified(client)
    client.close()
    again = world.client(bob, FETCHES, port=client.port)
    assert again.contact == client.contact
    assert Summary(notified(again)[0]).new == 1


def test_what_comes_later_has_the_same_call_id_and_a_higher_cseq(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    for i in range(3):
        put(world, bob)
        wait_summary(client, lambda s: s.new == i + 1)
    assert len({m.call_id for m in client.messages}) == 1
    cseqs = [int(m.cseq[0]) for m in client.messages]
    assert cseqs == sorted(set(cseqs))


@pytest.mark.parametrize("answer", [480, 503, None])
def test_a_client_that_fails_is_tried_again(world, user, answer):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    client.answers = [answer]
    put(world, bob)
    first, second = notified(client, 2)[:2]
    assert second.at - first.at > 0.9  # retry_intervals
    assert Summary(second).new == 1
    assert first.branch != second.branch


def test_it_is_not_tried_for_ever_and_again_when_it_registers(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    client.answer = 480
    put(world, bob)
    notified(client, 4)  # retry_intervals has three
    failed = world.stack.metric("notify_failed")
    assert failed >= 4
    settle(world, user, client)
    settle(world, user, client)
    assert len(client.messages) == 4
    client.answer = 200
    client.register(params=FETCHES)
    assert Summary(notified(client, 5)[-1]).new == 1


@pytest.mark.parametrize("answer", [405, 481, 489, 501])
def test_who_wants_no_such_request_gets_no_more_until_it_registers_anew(
        world, user, answer):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    client.answer = answer
    put(world, bob)
    notified(client)
    put(world, bob)
    client.register(params=FETCHES)
    settle(world, user, client)
    assert len(client.messages) == 1
    client.answer = 200
    client.register(expires=0)
    client.register(params=FETCHES)
    assert Summary(notified(client, 2)[-1]).new == 2


def test_what_happens_while_an_answer_is_awaited_is_told_afterwards(
        world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    client.answers = [None]
    put(world, bob)
    notified(client)
    put(world, bob)
    put(world, bob)
    s = wait_summary(client, lambda s: s.new == 3)
    assert len(s.ids) == 3
    settle(world, user, client)
    assert len(client.messages) <= 3


# ------------------------------------------------------------- less queued


def test_what_expires_is_counted_no_more_and_the_end_is_told_once(
        world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob, headers=[("Expires", "2")])
    put(world, bob, headers=[("Expires", "4")])
    wait_summary(client, lambda s: s.new == 2)
    wait_summary(client, lambda s: s.new == 1)
    s = wait_summary(client, lambda s: s.new == 0)
    assert (s.waiting, s.blocks) == (False, [])
    count = len(client.messages)
    client.register(params=FETCHES)
    settle(world, user, client)
    assert len(client.messages) == count


def test_that_nothing_is_left_is_tried_again_as_well(world, user):
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob, headers=[("Expires", "2")])
    wait_summary(client, lambda s: s.new == 1)
    client.answers = [503]
    wait_summary(client, lambda s: not s.waiting)
    count = len(client.messages)
    assert client.messages[-1].answered == 503
    assert not Summary(notified(client, count + 1)[-1]).waiting


def test_a_restart_costs_one_request_and_forgets_nothing_else(
        own_world, user):
    world = own_world()
    bob = teller(world, user())
    client = world.client(bob, FETCHES)
    put(world, bob, headers=[("Expires", "6")])
    notified(client)
    world.stack.expected.append(SHUTDOWN)
    world.stack.kamailio.stop()
    world.stack.start_kamailio()
    client.register(params=FETCHES)
    assert Summary(notified(client, 2)[-1]).new == 1
    wait_summary(client, lambda s: not s.waiting, 15)


# ------------------------------------------------------------------- flush


def test_modes_of_flush(own_world, user):
    world = own_world(cfg_edit=FLUSH)
    bob = teller(world, user())
    client = world.client(bob, ";" + tag("deferred"))
    put(world, bob)
    notified(client)
    # by preference: what is known is not told again
    assert flush(world.stack, bob, "auto").reason == "flush 1"
    settle(world, user, client)
    assert len(client.messages) == 1
    # asked for: told again
    assert flush(world.stack, bob, "notify").reason == "flush 1"
    assert Summary(notified(client, 2)[-1]).new == 1
    # brought to a client that takes it, against the preference
    pager = world.client(bob, ";" + tag("msg"))
    notified(pager)
    assert flush(world.stack, bob, "push").reason == "flush 1"
    pager.wait(lambda: "MESSAGE" in [m.method for m in pager.messages], 10)
    wait_until(lambda: world.stack.queue(bob) is None)
    for c in (client, pager):
        c.wait(lambda: c.messages[-1].method == "NOTIFY"
               and not Summary(c.messages[-1]).waiting, 10)
    assert flush(world.stack, bob, "notify").reason == "flush 2"
    world.stack.expect_log("flush: .* mode \"fly\"; it takes auto, push or "
                           "notify")
    assert flush(world.stack, bob, "fly").reason == "flush -1"
    # what the script hears
    def told():
        return re.findall(r"told user=(\S+) code=(\d+) why=(\S+) size=(\d+)",
                          world.stack.kamailio.log())
    assert ("sip:%s@example.org" % bob, "200", "notified", "1") in told()
    # one by settle()
    count = len(client.messages) + len(pager.messages) - 1 + 1
    wait_until(lambda: world.stack.metric("notified") == count == len(told()))


def test_a_user_of_mode_push_can_be_notified_by_flush(own_world, user):
    world = own_world(cfg_edit=FLUSH)
    bob = world.user(user(), world.rule("x", "defer"))
    client = world.client(bob, ";" + tag("msg"))
    client.answer = lambda m: 480 if m.method == "MESSAGE" else 200
    put(world, bob)
    flush(world.stack, bob, "notify")
    client.wait(lambda: "NOTIFY" in [m.method for m in client.messages], 10)
