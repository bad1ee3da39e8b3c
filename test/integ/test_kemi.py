# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The configurations in Lua and Python do what the native one does: the same
tests, each with either of them; and every function of the module from there."""

import os
import re

import pytest

import databases
import test_decisions
import test_pull
import test_refusals
import test_story
from db import World
from harness import DOMAIN, HOST, TOP, Stack

ENGINES = ["lua", "python"]
CFG = os.path.join(TOP, "cfg")
SCRIPTS = {"lua": os.path.join(CFG, "kamailio-cpm-kemi.lua"),
           "python": os.path.join(CFG, "kamailio-cpm-kemi.py")}

SAME = {
    test_story: [
        "test_a_message_to_an_offline_user_is_queued_shown_and_delivered",
        "test_a_message_for_a_registered_user_is_relayed_and_not_queued",
        "test_a_registered_client_that_does_not_answer_gets_it_at_its_next_"
        "register",
        "test_a_message_that_one_client_cannot_take_does_not_stop_the_others",
        "test_one_user_in_any_spelling_has_one_queue"],
    test_refusals: ["test_refused"],
    test_decisions: [
        "test_an_unknown_recipient_is_404_and_has_no_queue",
        "test_such_a_sender_is_403_service_not_authorised",
        "test_two_of_three_clients_get_it_and_the_third_hears_nothing",
        "test_a_rule_hands_over_to_the_isf_as_it_came",
        "test_what_the_isf_says_is_what_the_sender_hears",
        "test_a_client_that_does_not_answer_is_offline_for_the_isf",
        "test_what_is_to_be_stored_is_queued_until_there_is_a_store",
        "test_who_is_offline_may_reject",
        "test_a_client_whose_connection_is_gone_counts_as_not_registered",
        "test_when_both_clients_fail_each_was_asked_once_before_it_is_queued"],
    test_pull: [
        "test_an_invite_without_a_list_fetches_all",
        "test_each_message_gets_what_its_user_says"],
}
for _module, _names in SAME.items():
    for _name in _names:
        globals()[_name] = getattr(_module, _name)
start, client = test_pull.start, test_pull.client


def use(stack, engine, script=None):
    """Makes of a stack with the native configuration one with this engine."""
    if engine != "native":
        stack.cfg = os.path.join(CFG, "kamailio-cpm-kemi-%s.cfg" % engine)
        stack.defines["KEMI_SCRIPT"] = '"%s"' % (script or SCRIPTS[engine])
    return stack


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


def world_of(directory, engine, settings):
    world = World(str(directory), databases.Sqlite(str(directory)).create(),
                  settings)
    use(world.stack, engine)
    # of the tests for which every user of the domain is known
    world.user("alice")
    return world


@pytest.fixture(scope="module")
def _world(tmp_path_factory, engine):
    world = world_of(tmp_path_factory.mktemp(engine), engine,
                     {"event_callback": "ksr_cpm_event"})
    try:
        yield world.start()
    finally:
        world.close()


@pytest.fixture
def world(request, _world):
    request.node.cpm_stacks = [_world.stack]
    _world.begin()
    yield _world
    _world.end()


@pytest.fixture(scope="module")
def _plain(tmp_path_factory, engine):
    stack = use(Stack(str(tmp_path_factory.mktemp(engine)), {
        "message_max_bytes": 60000, "event_callback": "ksr_cpm_event"}),
        engine)
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def shared(request, _plain):
    request.node.cpm_stacks = [_plain]
    _plain.expected = []
    _plain.restart_if_dead()
    yield _plain
    _plain.close_uas()
    _plain.check_log()


@pytest.fixture
def small(shared):
    return shared


@pytest.fixture
def new_stack(new_stack, engine):
    return lambda *args, **kw: use(new_stack(*args, **kw), engine)


# ------------------------------------------------------------ the routes


REQUESTS = [
    ("OPTIONS", "sip:HERE", {}, 200),
    ("OPTIONS", "sip:nobody@example.org", {}, 480),
    ("INVITE", "sip:nobody@example.org", {}, 480),
    ("PUBLISH", "sip:nobody@example.org", {}, 489),
    ("SUBSCRIBE", "sip:queue@example.org", {}, 403),
    ("OPTIONS", "sip:queue@example.org", {}, 480),
    ("MESSAGE", "sip:bob@elsewhere.example", {"sender": "x@y.example"}, 403),
    ("MESSAGE", "tel:+4930123", {"body": b"hello"}, 202),
    ("INFO", "tel:+4930123", {"sender": "x@y.example"}, 403),
    ("BYE", "sip:nobody@example.org", {"to": "<sip:n@example.org>;tag=1"},
     404),
    ("REGISTER", "sip:elsewhere.example",
     {"to": "<sip:bob@elsewhere.example>"}, 404),
    ("MESSAGE", "sip:nobody@example.org", {"hops": 0}, 483),
]


@pytest.fixture(scope="module")
def _native(tmp_path_factory):
    stack = Stack(str(tmp_path_factory.mktemp("native")),
                  {"message_max_bytes": 60000})
    try:
        yield stack.start()
    finally:
        stack.close()


def answer(stack, method, uri, sender=None, to=None, hops=None, body=b""):
    ua = stack.ua("alice")
    raw = ua.build(method, uri.replace("HERE", "%s:%d" % (
        HOST, stack.sip_port)), [("Content-Type", "text/plain")] * bool(body),
        body, to=to, from_=sender and "<sip:%s>;tag=2" % sender)
    if hops is not None:
        raw = re.sub(rb"Max-Forwards: \d+", b"Max-Forwards: %d" % hops, raw)
    try:
        return ua.transact(raw).code
    finally:
        ua.close()


@pytest.mark.parametrize("method,uri,how,code", REQUESTS, ids=[
    "%s %s%s" % (r[0], r[1], " of another" * ("sender" in r[2]))
    for r in REQUESTS])
def test_a_request_gets_what_the_native_configuration_says(
        shared, _native, method, uri, how, code):
    assert answer(_native, method, uri, **how) == code
    assert answer(shared, method, uri, **how) == code


def test_a_call_passes_and_stays_on_its_way(shared, user):
    bob = user()
    client = shared.ua(bob)
    client.handlers["INVITE"] = client.accept
    client.register()
    response, dialog = shared.ua("alice").invite("sip:%s@example.org" % bob)
    assert response.code == 200
    assert response.get("record-route")
    assert dialog.bye().code == 200


# ------------------------------------------------------------ the events


def test_the_callback_is_told_what_becomes_of_a_message(shared, user):
    bob = user()
    offset = len(shared.kamailio.log().encode())
    assert shared.ua("alice").message(
        "sip:%s@example.org" % bob, b"hello").code == 202
    mid = shared.items(bob)[0]["id"]
    client = shared.ua(bob)
    client.register()
    client.wait_messages(1)
    shared.wait_empty(bob)
    who = "user=sip:%s@example.org id=%s" % (bob, re.escape(mid))
    shared.kamailio.wait_log(
        "cpm_pf:queued %s code=202 why=queued queued=1" % who, offset=offset)
    shared.kamailio.wait_log(
        "cpm_pf:delivered %s code=200 why=message queued=0" % who,
        offset=offset)


# --------------------------------------------------------- the functions


# What a request with this user in its URI calls; what it returned, and
# $cpm(why), is the reason of the answer.
CALLS = [
    ("authorize()", "1"),
    ("route_recipient()", "2"),
    ('route_recipient_aor("sip:carol@example.org")', "2"),
    ("interwork()", "-1 no-isf"),
    ("queue()", "1 queued"),
    ('queue_reason("test")', "2 duplicate"),
    ("flush_queue()", "1 delivery-scheduled"),
    ('flush_queue_aor("sip:nobody@example.org")', "2 nothing-queued"),
    ('flush_queue_mode("sip:bob@example.org", "push")',
     "1 delivery-scheduled"),
    ('flush_queue_mode("sip:bob@example.org", "often")', "-1 bad-mode"),
    ("store()", "1 duplicate"),
    ("session()", "-1"),
]
LUA = """function ksr_request_route()
	local method = KSR.pv.get("$rm")
	local call = KSR.pv.get("$hdr(X-Call)")
	local all = { %s }
	if method == "MESSAGE" and call then
		KSR.sl.sl_send_reply(299, all[tonumber(call) + 1]() .. " "
			.. KSR.pv.gete("$cpm(why)"))
		return 1
	end
"""
PYTHON = """    def ksr_request_route(self, msg):
        method = KSR.pv.get("$rm")
        call = KSR.pv.get("$hdr(X-Call)")
        if method == "MESSAGE" and call:
            rc = (%s)[int(call)]()
            KSR.sl.sl_send_reply(299, "%%d %%s" %% (
                rc, KSR.pv.gete("$cpm(why)")))
            return 1
"""


def with_calls(engine, path):
    """The shipped script that makes one call when it is asked to."""
    with open(SCRIPTS[engine]) as f:
        text = f.read()
    calls = ["KSR.cpm_pf." + c for c, _ in CALLS]
    if engine == "lua":
        old = text[text.index("function ksr_request_route"):
                   text.index("	-- FLOOD")]
        new = LUA % ", ".join("function() return %s end" % c for c in calls)
    else:
        old = text[text.index("    def ksr_request_route"):
                   text.index("        # FLOOD")]
        new = PYTHON % ", ".join("lambda: " + c for c in calls)
    with open(path, "w") as f:
        f.write(text.replace(old, new))
    return path


def test_every_function_of_the_native_script_is_there():
    def names(file, pattern):
        with open(os.path.join(TOP, "modules", "cpm_pf", file)) as f:
            return re.findall(pattern, f.read())
    kemi = set(names("pf_script.c",
                     r'str_init\("cpm_pf"\), str_init\("(\w+)"\)'))
    native = names("pf_mod.c", r'{ "cpm_(\w+)", \(cmd_function\)\w+, (\d)')
    assert len(native) > 10
    more = {"route_recipient": ["_aor"], "queue": ["_reason"],
            "flush_queue": ["_aor", "_mode"]}
    assert kemi == {name + ["", *more.get(name, [])][int(arguments)]
                    for name, arguments in native}
    called = {re.match(r"\w+", call)[0] for call, _ in CALLS}
    assert called | {"reply"} == kemi


def test_every_function_can_be_called(tmp_path, engine):
    (tmp_path / "stack").mkdir()
    stack = use(Stack(str(tmp_path / "stack")), engine, with_calls(
        engine, str(tmp_path / os.path.basename(SCRIPTS[engine]))))
    stack.expect_log("mode .often.; it takes auto, push or notify")
    try:
        stack.start()
        alice = stack.ua("alice")
        raw = alice.build("MESSAGE", "sip:bob@" + DOMAIN,
                          [("Content-Type", "text/plain")], b"hello")
        said = []
        for number in range(len(CALLS)):
            response = alice.transact(raw.replace(
                b"branch=z9hG4bK", b"branch=z9hG4bKa%d" % number).replace(
                b"\r\nContent-Type", b"\r\nX-Call: %d\r\nContent-Type"
                % number, 1))
            assert response.code == 299
            said.append(response.reason.strip())
    finally:
        stack.close()
    for (call, expected), reason in zip(CALLS, said):
        assert (reason + " ").startswith(expected + " "), (call, reason)
