# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A SIP client that others wrote is told what is queued, and fetches it: SIPp
registers, takes the NOTIFY, and sends INVITE, ACK and BYE."""

import os
import re
import socket
import xml.etree.ElementTree as ET

import pytest

import databases
import msrpua
from db import World, cpim
from harness import HOST, Program, free_port, wait_until
from peers import SCENARIOS, Sipp, need

RESULTS = "application/cpm-queue-results+xml"
RESULT = "{urn:cpm-pf:queue-results:1}result"


class Fetching(Sipp):
    """A scenario that has a twin, which is this object: the twin has the
    session that SIPp asks for."""

    def __init__(self, stack, scenario, user, directory, endpoint, setup):
        need("sipp")
        self.port, self.timeout = free_port(), 15
        self.name = "sipp-%s-%d" % (scenario, self.port)
        trace = os.path.join(str(directory), self.name)
        self.messages, self.errors = trace + ".msg", trace + ".err"
        self._server = socket.create_server((HOST, 0))
        self._server.settimeout(self.timeout)
        keys = {"path": endpoint.path, "msrp_port": endpoint.port or 9,
                "setup": setup, "types": "message/cpim " + RESULTS}
        self.program = Program(self.name, [
            "sipp", "%s:%d" % (HOST, stack.sip_port),
            "-3pcc", "%s:%d" % self._server.getsockname(),
            "-sf", os.path.join(SCENARIOS, scenario + ".xml"),
            "-i", HOST, "-p", str(self.port), "-m", "1", "-s", user,
            "-nostdin", "-timeout", "%ds" % self.timeout, "-timeout_error",
            "-trace_err", "-error_file", self.errors,
            "-trace_msg", "-message_file", self.messages] + [
                word for pair in keys.items()
                for word in ("-key",) + tuple(map(str, pair))],
            str(directory))
        self.wait_listening()

    def wait_peer_path(self):
        """What the 200 to the INVITE says, once it was acknowledged."""
        try:
            self._twin, _ = self._server.accept()
            self._twin.settimeout(self.timeout)
            said = b""
            while not said.endswith(b"\x1b"):
                more = self._twin.recv(4096)
                assert more, self.report()
                said += more
        except OSError as e:
            raise AssertionError("%s\n%s" % (e, self.report()))
        self._call, path = re.fullmatch(
            r"(Call-ID: \S+)\s+Path: (\S[^\r\n]*\S)\s*\x1b",
            said.decode()).groups()
        return path

    def hang_up(self):
        self._twin.sendall(self._call.encode() + b"\r\n\x1b")

    def close(self):
        self._server.close()
        if self.program.running:
            self.program.kill()


@pytest.fixture(scope="module")
def _world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fetch")
    world = World(directory, databases.Sqlite(str(directory)).create(),
                  {"notify_delay_ms": 100},
                  {"MSRP": '"%s:%d"' % (HOST, free_port())})
    try:
        world.user("alice")
        yield world.start()
    finally:
        world.close()


@pytest.fixture
def fetch(world, tmp_path):
    """Registers a client of a user, by which it is told; the SIP client and
    the MSRP endpoint of its session, which is there."""
    made = []

    def go(scenario, user, setup):
        endpoint = msrpua.Endpoint()
        made.append(endpoint)
        if setup == "passive":
            endpoint.listen()
        client = Fetching(world.stack, scenario, user, tmp_path, endpoint,
                          setup)
        made.append(client)
        Sipp(world.stack, "register_uac", user, tmp_path,
             contact_port=client.port).expect_success()
        peer = client.wait_peer_path()
        if setup == "active":
            endpoint.connect(peer)
        else:
            endpoint.wait_connected(10)
        return client, endpoint

    yield go
    for thing in made:
        thing.close()


def put(world, bob, count):
    """Queues messages; returns their bytes."""
    sent = []
    for i in range(count):
        sent.append(cpim(b"number %d of %s" % (i, bob.encode()),
                         message_id="%s-%d" % (bob, i)))
        response = world.send(bob, sent[-1], "message/cpim")
        assert response.code == 202, response
    return sent


@pytest.mark.parametrize("setup", ["active", "passive"])
def test_sipp_is_told_what_is_queued_and_fetches_all(
        world, user, fetch, setup):
    bob = world.user(user(), queue_mode="notify")
    sent = put(world, bob, 5)
    sipp, endpoint = fetch("fetch_all", bob, setup)
    got = endpoint.wait_messages(5, 10)
    sipp.hang_up()
    sipp.expect_success()       # it was told that nothing is left, too
    assert [m.body for m in got] == sent
    assert {m.content_type for m in got} == {"message/cpim"}
    wait_until(lambda: endpoint.closed, 5, "the MSRP connection has ended")
    assert len(endpoint.messages) == 5
    assert endpoint.violations == []
    assert world.stack.queue(bob) is None


def test_sipp_says_what_is_to_become_of_each_message(world, user, fetch):
    bob = world.user(user(), queue_mode="notify")
    sent = put(world, bob, 3)
    sipp, endpoint = fetch("fetch_some", bob, "active")
    message, results = endpoint.wait_messages(2, 10)
    sipp.hang_up()
    sipp.expect_success()       # it was told that something is left, too
    assert message.body == sent[2]
    assert results.content_type == RESULTS
    assert [(r.get("id"), r.get("action"), r.get("status"))
            for r in ET.fromstring(results.body).findall(RESULT)] == [
                (bob + "-2", "retrieve", "ok"), (bob + "-1", "discard", "ok"),
                (bob + "-0", "keep", "ok")]
    assert endpoint.violations == []
    assert [(i["id"], i["state"]) for i in world.stack.items(bob)] == [
        (bob + "-0", "held")]
