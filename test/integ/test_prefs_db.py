# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Preferences on each kind of database: what changed is seen, rows that cannot
be understood are named, and a server that stops is waited for. More of the
same on SQLite: test_prefs.py; of tables and versions: test_sql_files.py."""

import re

import pytest

import databases
from db import World
from harness import wait_until

KINDS = ["sqlite", "mysql", "postgres"]
DRIVER = r"(ERROR|WARNING): (db_\w+|<core> .*(db_|pool))|db_do_"
DOWN = [DRIVER, r"WARNING: cpm_pf .*prefs: database down"]


@pytest.fixture(scope="module")
def servers():
    servers = databases.Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="module", params=KINDS)
def _world(request, servers, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    world = World(directory,
                  servers.database(request.param, str(directory)).create())
    try:
        world.user("alice")
        yield world.start()
    finally:
        world.close()


@pytest.fixture(params=["mysql", "postgres"])
def outage(request, servers, tmp_path):
    """A World, and the server of its database, that may be stopped."""
    database = servers.database(request.param, str(tmp_path)).create()
    world = World(tmp_path, database)
    request.node.cpm_stacks = [world.stack]
    try:
        for name in ("alice", "bob", "carol"):
            world.user(name)
        yield world.start(), servers.get(request.param)
    finally:
        world.close()


# ----------------------------------------------------- what changed is seen


def test_a_reload_of_one_user_is_seen_at_once_and_of_that_user(world, user):
    bob, carol = world.user(user()), world.user(user("carol"))
    clients = [world.client(u) for u in (bob, carol)]
    assert [world.send(u).code for u in (bob, carol)] == [200, 200]
    for name in (bob, carol):
        world.db.sql(world.rule(name, "reject", content_type="text/*"))
    assert [world.send(u).code for u in (bob, carol)] == [200, 200]
    world.stack.rpc("cpm_pf.reload", "sip:%s@example.org" % bob)
    assert [world.send(u).code for u in (bob, carol)] == [403, 200]
    world.db.sql("DELETE FROM cpm_rule WHERE username = '%s';" % bob)
    world.stack.rpc("cpm_pf.reload", "sip:%s@example.org" % bob)
    assert [world.send(u).code for u in (bob, carol)] == [200, 200]
    assert [len(c.messages) for c in clients] == [3, 4]


def test_a_reload_of_all_is_seen_at_once_and_of_policies_too(world, user):
    bob, carol, kind = user(), world.user(user("carol")), user("class")
    world.user(bob, world.policy(kind), service_class=kind)
    assert [world.send(u).code for u in (bob, carol)] == [202, 202]
    world.db.sql("UPDATE cpm_policy SET max_size = 3 WHERE service_class"
                 " = '%s'; UPDATE cpm_user SET enabled = 0 WHERE username"
                 " = '%s';" % (kind, carol))
    assert [world.send(u).code for u in (bob, carol)] == [202, 202]
    world.stack.rpc("cpm_pf.reload")
    assert [world.send(u).code for u in (bob, carol)] == [403, 404]


def test_a_reload_costs_the_others_no_message(world, user):
    """Every message is answered, and by what is true then or was before."""
    bob = world.user(user())
    client = world.client(bob)
    for i in range(20):
        world.stack.rpc("cpm_pf.reload")
        assert world.send(bob, b"%d" % i).code == 200
    assert client.bodies == [b"%d" % i for i in range(20)]


# ------------------------------------------- rows that cannot be understood


def bad(table, id_, column):
    return r"ERROR: cpm_pf .*prefs: bad row table=%s id=%s column=%s: " % (
        table, id_, column)


def newest(world, table):
    return world.db.sql("SELECT max(id) FROM %s;" % table)[0]


@pytest.mark.parametrize("column,value", [
    ("action", "explode"), ("originator", "*example"),
    ("content_type", "text"), ("message_kind", "huge"), ("min_size", -1),
    ("valid_until", -1), ("device", "a b")])
def test_a_bad_rule_is_named_and_the_others_hold(world, user, column, value):
    bob = user()
    columns = dict({"priority": 1, "action": "reject"}, **{column: value})
    action = columns.pop("action")
    world.user(bob, world.rule(bob, action, **columns))
    id_ = newest(world, "cpm_rule")
    world.db.sql(world.rule(bob, "reject", priority=2, content_type="image/*"))
    world.stack.expect_log(bad("cpm_rule", id_, column))
    assert world.send(bob).code == 202
    assert world.send(bob, content_type="image/png").code == 403
    log = world.stack.kamailio.log()
    assert len(re.findall(bad("cpm_rule", id_, column), log)) == 1


@pytest.mark.parametrize("table,column,value", [
    ("cpm_user", "when_offline", "sometimes"), ("cpm_user", "enabled", 2),
    ("cpm_user", "queue_mode", "pull"), ("cpm_user", "on_expiry", "burn"),
    ("cpm_policy", "accept_types", "text"), ("cpm_policy", "max_size", -1),
    ("cpm_policy", "deliver_max_size", "fax=1")])
def test_a_bad_user_or_policy_is_named_and_no_guess_is_made(
        world, user, table, column, value):
    bob, kind = user(), user("class")
    world.user(bob, world.policy(kind, **(
        {column: value} if table == "cpm_policy" else {})),
        service_class=kind, **({column: value} if table == "cpm_user" else {}))
    id_ = newest(world, table)
    world.stack.expect_log(bad(table, id_, column))
    for _ in range(2):
        response = world.send(bob)
        assert response.code == 503
        assert int(response.get("retry-after")) > 0
    assert world.send(world.user(user("carol"))).code == 202
    log = world.stack.kamailio.log()
    assert len(re.findall(bad(table, id_, column), log)) == 1
    assert world.stack.queue(bob) is None


# -------------------------------------------------- a server that stops


def test_who_is_cached_goes_on_and_others_get_503_until_it_is_back(outage):
    world, server = outage
    world.stack.expect_log(*DOWN)
    bob = world.client("bob")
    assert world.send("bob").code == 200
    server.stop()
    response = world.send("carol")
    assert (response.code, response.reason) == (503, "Service Unavailable")
    assert int(response.get("retry-after")) > 0
    assert world.stack.queue("carol") is None
    # as a sender she is no better known
    assert world.send("bob", sender="carol").code == 503
    assert world.send("bob", b"and still").code == 200
    bob.register(expires=0)
    assert world.send("bob", b"offline").code == 202
    bob.register()
    assert [m.body for m in bob.wait_messages(3)] == [
        b"hello", b"and still", b"offline"]
    # a reload is not a way to lose what is known
    world.stack.rpc("cpm_pf.reload")
    assert world.send("bob").code == 200
    server.start()
    wait_until(lambda: world.send("carol").code == 202, 10, "carol is back")
    assert world.send("bob").code == 200


def test_a_server_that_was_restarted_while_nobody_asked_costs_nothing(outage):
    world, server = outage
    world.stack.expect_log(*DOWN)
    assert world.send("bob").code == 202
    server.stop()
    server.start()
    # what the first who asks finds is a connection that is gone
    assert world.send("carol").code == 202
    assert world.send("bob", sender="carol").code == 202
