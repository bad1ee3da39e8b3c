# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Preferences from SQL: the cache, reload, rows that cannot be understood,
and a database that fails. Databases other than SQLite: test_sql_files.py."""

import re
import subprocess
import time

import pytest

import databases
from harness import wait_until

BROKEN = [r"ERROR: db_|ERROR: <core> .*db_|db_do_query|WARNING: db_"]


@pytest.fixture
def db(tmp_path):
    return databases.Sqlite(str(tmp_path)).create(sample=True)


@pytest.fixture
def start(new_stack, db):
    def start(settings=None, expect=()):
        stack = new_stack(settings, **db.stack())
        stack.expect_log(*expect)
        return stack.start()
    return start


def send(stack, user, sender="alice", body=b"hello", **kw):
    return stack.ua(sender).message("sip:%s@example.org" % user, body,
                                    **kw).code


def rpc_fails(stack, *words):
    """What kamcmd says of a call that is refused."""
    done = subprocess.run(["kamcmd", "-s", "unix:ctl.sock"] + list(words),
                          cwd=stack.directory, capture_output=True, text=True,
                          timeout=10)
    text = done.stdout + done.stderr
    assert "error" in text, text
    return text


def lines(stack, pattern):
    return re.findall(pattern, stack.kamailio.log())


def disable(db, user, enabled=0):
    db.sql("UPDATE cpm_user SET enabled = %d WHERE username = '%s';"
           % (enabled, user))


# ------------------------------------------------------- cache and reload


def test_what_changed_is_seen_after_a_reload_of_that_user(start, db):
    stack = start()
    assert send(stack, "bob") == 202
    assert send(stack, "carol") == 202
    disable(db, "bob")
    disable(db, "carol")
    assert send(stack, "bob") == 202
    assert "sip:bob@example.org" in stack.rpc(
        "cpm_pf.reload", "SIP:bob@EXAMPLE.org:5060;transport=tcp")
    assert send(stack, "bob") == 404
    assert send(stack, "carol") == 202
    assert "all" in stack.rpc("cpm_pf.reload")
    assert send(stack, "carol") == 404


def test_what_changed_is_seen_after_the_ttl(start, db):
    stack = start({"prefs_cache_ttl": 1})
    assert send(stack, "bob") == 202
    disable(db, "bob")
    wait_until(lambda: send(stack, "bob") == 404, 3, "bob is disabled")


def test_with_a_ttl_of_0_what_changed_is_seen_at_once(start, db):
    stack = start({"prefs_cache_ttl": 0})
    for enabled, code in ((1, 202), (0, 404), (1, 202)):
        disable(db, "bob", enabled)
        assert send(stack, "bob") == code


def test_a_user_who_does_not_exist_is_remembered_too(start, db):
    stack = start()
    assert send(stack, "zoe") == 404
    misses = stack.metric("prefs_misses")
    assert send(stack, "zoe") == 404
    assert stack.metric("prefs_misses") == misses
    db.sql("INSERT INTO cpm_user (username, domain)"
           " VALUES ('zoe', 'example.org');")
    assert send(stack, "zoe") == 404
    stack.rpc("cpm_pf.reload", "sip:zoe@example.org")
    assert send(stack, "zoe") == 202


def test_one_user_is_asked_for_once(start):
    stack = start()
    send(stack, "bob")
    misses, hits = stack.metric("prefs_misses"), stack.metric("prefs_hits")
    for _ in range(10):
        assert send(stack, "bob") == 202
    assert stack.metric("prefs_misses") == misses
    assert stack.metric("prefs_hits") >= hits + 20  # alice and bob


def test_a_policy_is_read_again_with_a_reload_of_all(start, db):
    stack = start()
    assert send(stack, "erin", content_type="video/mp4") == 415
    db.sql("UPDATE cpm_policy SET accept_types = '';")
    stack.rpc("cpm_pf.reload", "sip:erin@example.org")
    assert send(stack, "erin", content_type="video/mp4") == 415
    stack.rpc("cpm_pf.reload")
    assert send(stack, "erin", content_type="video/mp4") == 202


def test_the_row_with_an_empty_class_is_for_users_without_class(start, db):
    db.sql("INSERT INTO cpm_policy (service_class, accept_types)"
           " VALUES ('', 'text/html');"
           "INSERT INTO cpm_user (username, domain, service_class)"
           " VALUES ('zoe', 'example.org', '');"
           "INSERT INTO cpm_user (username, domain, service_class)"
           " VALUES ('yan', 'example.org', 'unheard-of');")
    stack = start()
    assert send(stack, "zoe") == 415
    assert send(stack, "yan") == 202


def test_a_small_cache_serves_many_users(start, db):
    db.sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
           " WHERE i < 300) INSERT INTO cpm_user (username, domain, enabled)"
           " SELECT 'u' || i, 'example.org', i % 2 FROM n;")
    stack = start({"prefs_cache_size": 16})
    for _ in range(2):
        for i in range(1, 301):
            assert send(stack, "u%d" % i) == (202 if i % 2 else 404)
    # who is asked for all the time stays: alice is a hit in each message
    assert stack.metric("prefs_misses") < 2 * 300 + 30


@pytest.mark.parametrize("argument,why", [
    ("bob", "bad-scheme"), ("sip:example.org", "no-user"),
    ("mailto:bob@example.org", "bad-scheme"), ("s:", "no address of record"),
    ("17", "bad-scheme")])
def test_reload_takes_an_address_of_record(start, db, argument, why):
    stack = start()
    assert send(stack, "bob") == 202
    disable(db, "bob")
    text = rpc_fails(stack, "cpm_pf.reload", argument)
    assert why in text and "sip:user@domain" in text
    assert send(stack, "bob") == 202  # nothing was reloaded


def test_reload_without_a_database_is_no_error(new_stack):
    stack = new_stack().start()
    assert send(stack, "bob") == 202
    assert "all" in stack.rpc("cpm_pf.reload")
    assert send(stack, "bob") == 202


# ------------------------------------ rows that cannot be understood


def bad(table, id_, column):
    return r"ERROR: cpm_pf .*prefs: bad row table=%s id=%s column=%s: " % (
        table, id_, column)


def rule(user, priority, **columns):
    columns = dict({"username": user, "domain": "example.org",
                    "priority": priority}, **columns)
    return "INSERT INTO cpm_rule (%s) VALUES (%s);" % (
        ", ".join(columns), ", ".join("'%s'" % v for v in columns.values()))


@pytest.mark.parametrize("column,value", [
    ("action", "explode"), ("action", ""), ("originator", "*example"),
    ("content_type", "text"), ("message_kind", "huge"), ("min_size", "-1"),
    ("valid_from", "-1"), ("device", "a b")])
def test_a_bad_rule_is_named_and_left_out(start, db, column, value):
    db.sql("DELETE FROM cpm_rule;")
    db.sql(rule("bob", 1, **dict({"action": "reject"}, **{column: value})))
    db.sql(rule("bob", 2, action="reject", content_type="image/*"))
    stack = start(expect=[bad("cpm_rule", 1, column)])
    for _ in range(3):
        assert send(stack, "bob") == 202
    assert send(stack, "bob", content_type="image/png") == 403
    assert len(lines(stack, bad("cpm_rule", 1, column))) == 1
    assert not lines(stack, r"ERROR: .*bob")  # an address is private


@pytest.mark.parametrize("column,value", [
    ("when_offline", "sometimes"), ("queue_mode", "pull"),
    ("on_expiry", "burn"), ("enabled", "2"), ("record_copy", "-1")])
def test_a_bad_user_is_refused_not_guessed(start, db, column, value):
    db.sql("UPDATE cpm_user SET %s = '%s' WHERE username = 'carol';"
           % (column, value))
    stack = start(expect=[bad("cpm_user", 3, column)])
    for _ in range(3):
        assert send(stack, "carol") == 503
        assert send(stack, "bob") == 202
    assert len(lines(stack, bad("cpm_user", 3, column))) == 1
    assert stack.metric("db_failures") == 0
    db.sql("UPDATE cpm_user SET %s = %s WHERE username = 'carol';"
           % (column, {"enabled": "1", "record_copy": "0"}.get(column, "''")))
    stack.rpc("cpm_pf.reload", "sip:carol@example.org")
    assert send(stack, "carol") == 202


@pytest.mark.parametrize("column,value", [
    ("accept_types", "text"), ("max_size", "-1"), ("allow_send", "2"),
    ("deliver_max_size", "fax=1"), ("max_expires", "-1")])
def test_a_bad_policy_refuses_its_class(start, db, column, value):
    db.sql("UPDATE cpm_policy SET %s = '%s' WHERE service_class = 'basic';"
           % (column, value))
    stack = start(expect=[bad("cpm_policy", 2, column)])
    for _ in range(3):
        assert send(stack, "erin") == 503
        assert send(stack, "bob") == 202
    assert len(lines(stack, bad("cpm_policy", 2, column))) == 1


def test_256_rules_are_not_too_many_and_257_are(start, db):
    db.sql("".join(rule("bob", i, action="reject",
                        content_type="audio/x%d" % i) for i in range(256)))
    stack = start(expect=[r"more than 256 rules"])
    assert send(stack, "bob") == 202
    assert send(stack, "bob", content_type="audio/x255") == 403
    db.sql(rule("bob", 256, action="reject", content_type="audio/y"))
    stack.rpc("cpm_pf.reload")
    assert send(stack, "bob") == 503
    assert send(stack, "carol") == 202


def test_long_rules_are_refused_as_a_whole_not_cut(start, db):
    db.sql("".join(rule("bob", i, action="reject",
                        originator="sip:%s@example.com" % ("x" * 200),
                        device="d" * 200) for i in range(200)))
    stack = start(expect=[r"rules are too long"])
    assert send(stack, "bob") == 503
    assert send(stack, "carol") == 202


def test_null_is_the_default(new_stack, tmp_path):
    """Of tables that were made by other means."""
    db = databases.Sqlite(str(tmp_path)).create()
    db.sql("DROP TABLE cpm_user; CREATE TABLE cpm_user (id INTEGER PRIMARY"
           " KEY, username TEXT, domain TEXT, enabled INT, service_class TEXT,"
           " when_offline VARCHAR(9), queue_mode BLOB, on_expiry TEXT,"
           " record_copy REAL);"
           "INSERT INTO cpm_user (username, domain) VALUES"
           " ('alice', 'Example.ORG'), ('bob', 'example.org'),"
           " ('alice', 'example.org');")
    stack = new_stack(**db.stack()).start()
    assert send(stack, "bob") == 202


def test_two_rows_of_one_user_are_no_guess(start, db):
    db.sql("DROP TABLE cpm_user; CREATE TABLE cpm_user (id INTEGER PRIMARY"
           " KEY, username TEXT, domain TEXT, enabled INT, service_class TEXT,"
           " when_offline TEXT, queue_mode TEXT, on_expiry TEXT,"
           " record_copy INT);"
           "INSERT INTO cpm_user (username, domain) VALUES"
           " ('alice', 'example.org'), ('bob', 'example.org'),"
           " ('bob', 'example.org');")
    stack = start(expect=[r"more than one row"])
    assert send(stack, "bob") == 503
    assert send(stack, "alice") == 202


# ------------------------------------------------- a database that fails


def test_a_failing_database_stops_only_those_who_are_not_cached(start, db):
    stack = start({"prefs_cache_ttl": 1},
                  BROKEN + [r"prefs: database down"])
    assert send(stack, "bob") == 202
    db.sql("ALTER TABLE cpm_user RENAME TO gone;")
    assert send(stack, "carol") == 503
    end = time.monotonic() + 1.5

    def is_old():
        assert send(stack, "bob") == 202
        return time.monotonic() > end

    wait_until(is_old, 5)
    for _ in range(3):
        assert send(stack, "bob") == 202
        assert send(stack, "carol") == 503
        assert send(stack, "nobody") == 503
    assert stack.metric("db_up") == 0
    # a reload is no way to lose what there is
    stack.rpc("cpm_pf.reload")
    assert send(stack, "bob") == 202
    assert len(lines(stack, r"WARNING: cpm_pf .*prefs: database down")) == 1
    db.sql("ALTER TABLE gone RENAME TO cpm_user;")
    disable(db, "bob")
    wait_until(lambda: send(stack, "carol") == 202, 5, "carol is back")
    assert send(stack, "bob") == 404
    assert stack.metric("db_up") == 1
    assert len(lines(stack, r"NOTICE: cpm_pf .*prefs: database up")) == 1


@pytest.mark.parametrize("table", ["cpm_rule", "cpm_policy"])
def test_half_of_what_is_needed_is_not_enough(start, db, table):
    stack = start(expect=BROKEN + [r"prefs: database down"])
    db.sql("ALTER TABLE %s RENAME TO gone;" % table)
    assert send(stack, "bob") == 503
    db.sql("ALTER TABLE gone RENAME TO %s;" % table)
    wait_until(lambda: send(stack, "bob") == 202, 5, "bob is back")


def test_who_writes_does_not_lock_out_kamailio(start, db):
    stack = start()
    writer = subprocess.Popen(["sqlite3", db.path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        writer.stdin.write("BEGIN EXCLUSIVE;\nSELECT 'in';\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == "in\n"
        assert send(stack, "bob") == 202
    finally:
        writer.stdin.close()
        writer.wait(10)
        writer.stdout.close()
    assert stack.metric("db_failures") == 0


# ------------------------------------------------------------ parameters


@pytest.mark.parametrize("name,value,says", [
    ("prefs_cache_ttl", -1, "0 .read each time. to 86400"),
    ("prefs_cache_ttl", 86401, "0 .read each time. to 86400"),
    ("prefs_cache_size", 0, "1 to 1000000"),
    ("db_url", "oracle://cpm:s3cret@127.0.0.1/cpm", "loadmodule"),
    ("db_url", "s3cret", "loadmodule")])
def test_a_wrong_parameter_stops_kamailio(new_stack, db, name, value, says):
    stack = new_stack({name: value} if name != "db_url" else None,
                      redis=False, **db.stack())
    if name == "db_url":
        stack.defines["DB_URL"] = '"%s"' % value
    done = subprocess.run(stack.argv(), cwd=stack.directory,
                          capture_output=True, text=True, timeout=20,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert done.returncode != 0
    assert re.search("ERROR: cpm_pf.*%s.*%s" % (name, says), done.stderr), \
        done.stderr[-2000:]
