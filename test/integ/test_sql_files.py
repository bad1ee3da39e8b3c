# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The SQL files and tools/cpm-db.sh, on each kind of database, and Kamailio
on top of it."""

import os
import re
import stat
import subprocess

import pytest

import databases
from databases import cpm_db
from harness import wait_until

KINDS = ["sqlite", "mysql", "postgres"]
TABLES = ["cpm_policy", "cpm_rule", "cpm_user"]
VERSIONS = "SELECT table_name, table_version FROM version ORDER BY table_name;"
DRIVER = r"ERROR: db_|ERROR: <core> .*(db_|pool)|WARNING: db_|db_do_init"


@pytest.fixture(scope="module")
def servers():
    servers = databases.Servers()
    yield servers
    servers.close()


@pytest.fixture(params=KINDS)
def empty(request, servers, tmp_path):
    """An empty database of each kind."""
    return servers.database(request.param, str(tmp_path))


@pytest.fixture(params=[kind for kind in KINDS if kind != "sqlite"])
def guarded(request, servers, tmp_path):
    """An empty database of each kind that has passwords."""
    return servers.database(request.param, str(tmp_path))


def insert_user(name, more=""):
    return ("INSERT INTO cpm_user (username, domain) "
            "VALUES ('%s', 'example.org');%s" % (name, more))


# ------------------------------------------------------------- the files


def test_create_can_be_repeated_and_takes_nothing_away(empty):
    empty.create()
    empty.sql(insert_user("bob"))
    empty.create()
    assert empty.sql("SELECT username FROM cpm_user;") == ["bob"]
    assert empty.sql(VERSIONS) == [t + "|1" for t in TABLES + ["version"]]


def test_create_leaves_kamailios_own_version_rows_alone(empty):
    empty.sql("CREATE TABLE version (table_name VARCHAR(32) NOT NULL,"
              " table_version INTEGER DEFAULT 0 NOT NULL);"
              "INSERT INTO version VALUES ('version', 1), ('location', 9);")
    empty.create()
    assert empty.sql(VERSIONS) == [
        "cpm_policy|1", "cpm_rule|1", "cpm_user|1", "location|9", "version|1"]
    cpm_db("drop", empty.url)
    assert empty.sql(VERSIONS) == ["location|9", "version|1"]


def test_drop_can_be_repeated_even_where_nothing_is(empty):
    if empty.kind == "sqlite":
        empty.sql("CREATE TABLE other (id INTEGER);")
    cpm_db("drop", empty.url)
    empty.create(sample=True)
    cpm_db("drop", empty.url)
    cpm_db("drop", empty.url)
    for table in TABLES:
        assert empty.fails("SELECT 1 FROM %s;" % table)


def test_a_name_and_a_domain_make_a_user(empty):
    empty.create().sql(insert_user("bob"))
    assert empty.sql("SELECT * FROM cpm_user;") == [
        "1|bob|example.org|1||defer|push|delete|0"]
    empty.sql("INSERT INTO cpm_policy (service_class) VALUES ('x');")
    assert empty.sql("SELECT * FROM cpm_policy;") == ["1|x|0||1|1|0|0|0|0||"]
    empty.sql("INSERT INTO cpm_rule (username, domain, action)"
              " VALUES ('bob', 'example.org', 'store');")
    assert empty.sql("SELECT * FROM cpm_rule;") == [
        "1|bob|example.org|0||||0|0||0|0|store"]


def test_a_user_and_a_policy_are_there_once_a_rule_often(empty):
    empty.create().sql(insert_user("bob"))
    assert empty.fails(insert_user("bob"))
    empty.sql(insert_user("Bob"))  # somebody else, RFC 3261 19.1.4
    policy = "INSERT INTO cpm_policy (service_class) VALUES ('x');"
    empty.sql(policy)
    assert empty.fails(policy)
    rule = ("INSERT INTO cpm_rule (username, domain, action)"
            " VALUES ('bob', 'example.org', 'store');")
    empty.sql(rule + rule)
    assert empty.fails("INSERT INTO cpm_rule (username, domain)"
                       " VALUES ('bob', 'example.org');")


def test_large_numbers_and_long_texts_fit(empty):
    empty.create()
    empty.sql("INSERT INTO cpm_rule (username, domain, originator, min_size,"
              " max_size, valid_until, action) VALUES ('%s', '%s', '%s',"
              " 4294967296, 9007199254740993, 4102444800, 'interwork');"
              % ("u" * 64, "d" * 64, "o" * 255))
    assert empty.sql("SELECT min_size, max_size, valid_until FROM cpm_rule;"
                     ) == ["4294967296|9007199254740993|4102444800"]


def test_the_sample_can_be_repeated(empty):
    empty.create(sample=True)
    counts = ";".join("SELECT count(*) FROM " + t for t in TABLES) + ";"
    first = empty.sql(counts)
    empty.sql(insert_user("zoe") + "UPDATE cpm_user SET enabled = 0;")
    cpm_db("sample", empty.url)
    again = empty.sql(counts)
    assert again == first[:2] + [str(int(first[2]) + 1)]
    assert empty.sql("SELECT enabled FROM cpm_user WHERE username = 'bob';"
                     ) == ["1"]


def test_the_index_on_rules_is_there(empty):
    empty.create()
    where = {"sqlite": "SELECT count(*) FROM pragma_index_info("
                       "'cpm_rule_account_idx');",
             "mysql": "SELECT count(*) FROM information_schema.statistics"
                      " WHERE table_schema = DATABASE() AND"
                      " index_name = 'account_idx' AND"
                      " table_name = 'cpm_rule';",
             "postgres": "SELECT count(*) FROM pg_attribute WHERE attrelid ="
                         " 'cpm_rule_account_idx'::regclass;"}
    assert empty.sql(where[empty.kind]) == ["2"]


# ---------------------------------------------------------- tools/cpm-db.sh


@pytest.mark.parametrize("client,url", [
    ("mysql", "mysql://cpm:%s@127.0.0.1:1/cpm"),
    ("psql", "postgres://cpm:%s@127.0.0.1:1/cpm")])
def test_the_password_is_on_no_command_line(tmp_path, client, url):
    password = 'a"b\\c d@e:f'
    seen = tmp_path / "seen"
    fake = tmp_path / client
    fake.write_text('#!/bin/sh\necho "$@" >>"%s"\n'
                    'for a; do case $a in --defaults-extra-file=*)'
                    ' cat "${a#*=}" >"%s.file"; stat -c %%a "${a#*=}"'
                    ' >"%s.mode";; esac; done\n'
                    'printenv PGPASSWORD >"%s.env"; cat >/dev/null\n'
                    % (seen, seen, seen, seen))
    fake.chmod(stat.S_IRWXU)
    env = {"PATH": "%s:%s" % (tmp_path, os.environ["PATH"])}
    cpm_db("create", url % password, env=env)
    in_url = seen.read_text()
    cpm_db("create", env=dict(env, CPM_DB_URL=url % password))
    cpm_db("create", (url % "x").replace(":x@", "@"),
           env=dict(env, CPM_DB_PASSWORD=password))
    lines = re.sub(r"/tmp\.\w+", "/tmp", seen.read_text()).splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1
    assert "c d" not in in_url
    assert "127.0.0.1" in in_url and "cpm" in in_url
    if client == "mysql":
        assert (tmp_path / "seen.file").read_text() == \
            '[client]\npassword="a\\"b\\\\c d@e:f"\n'
        assert (tmp_path / "seen.mode").read_text() == "600\n"
    else:
        assert (tmp_path / "seen.env").read_text() == password + "\n"


@pytest.mark.parametrize("argv,says", [
    (["create", "cpm.db"], "is no URL"),
    (["create", "oracle://u:p@h/d"], "no such kind of database: oracle"),
    (["create", "mysql://u:p@h"], "names no database"),
    (["create", "mysql://u:p@h/"], "names no database"),
    (["create", "mysql://u:p@h:x/d"], "a port that is no number"),
    (["create", "sqlite:////nonexistent/cpm.db"], "there is no directory"),
    (["sample", "sqlite:////nonexistent/cpm.db"], "there is no file"),
    (["create"], "no URL"),
    (["destroy", "sqlite:////x"], "create|sample|drop"),
    ([], "create|sample|drop")])
def test_a_mistake_is_explained(argv, says):
    done = databases.run([databases.CPM_DB] + argv, check=False,
                         env={"CPM_DB_URL": ""})
    assert done.returncode != 0
    assert says in done.stderr
    assert "u:p" not in done.stderr


def test_sample_needs_the_tables(empty):
    if empty.kind == "sqlite":
        empty.sql("CREATE TABLE other (id INTEGER);")
    done = cpm_db("sample", empty.url, check=False)
    assert done.returncode != 0
    assert "create makes them" in done.stderr


def test_a_wrong_password_asks_nobody_and_fails(guarded):
    done = cpm_db("create", guarded.url.replace(databases.PASSWORD, "wrong"),
                  check=False, stdin=None)
    assert done.returncode != 0
    assert "create: failed" in done.stderr


def test_a_password_with_quotes_and_a_backslash_works(guarded):
    name = "odd%s" % guarded.name
    sql = "'o\"d\\\\d'" if guarded.kind == "mysql" else "'o\"d\\d'"
    if guarded.kind == "mysql":
        guarded.sql("CREATE USER %s@'%%' IDENTIFIED BY %s;"
                  "GRANT ALL ON *.* TO %s@'%%';" % (name, sql, name))
    else:
        guarded.sql("CREATE ROLE %s SUPERUSER LOGIN PASSWORD %s;" % (name, sql))
    cpm_db("create", guarded.url.replace("cpm:" + databases.PASSWORD,
                                       name + ':o"d\\d'))
    assert len(guarded.sql(VERSIONS)) == 4


# ------------------------------------------------------ Kamailio on top of it


def send(stack, user, sender="alice", body=b"hello", **kw):
    return stack.ua(sender).message("sip:%s@example.org" % user, body,
                                    **kw).code


def test_kamailio_reads_preferences_rules_and_policies(empty, new_stack):
    empty.create(sample=True)
    empty.sql(insert_user("Zoe") + insert_user("o''brien")
              + insert_user("j\u00f6rg"))
    stack = new_stack(**empty.stack()).start()
    assert stack.metric("db_up") == 1
    # as the sample has them
    assert send(stack, "bob") == 202
    assert send(stack, "grace") == 404
    assert send(stack, "nobody") == 404
    assert send(stack, "bob", sender="nobody") == 403
    # erin's policy: accepted types, size
    assert send(stack, "erin") == 202
    assert send(stack, "erin", content_type="video/mp4") == 415
    assert send(stack, "erin", body=b"x" * 60000) == 202
    # names are compared exactly, whatever the database does
    assert send(stack, "Bob") == 404
    assert send(stack, "bob%20") == 404
    assert send(stack, "zoe") == 404
    assert send(stack, "Zoe") == 202
    assert send(stack, "o'brien") == 202
    assert send(stack, "j%C3%B6rg") == 202
    assert send(stack, "x%27%20OR%20%271%27=%271") == 404
    assert send(stack, "%25") == 404
    assert stack.metric("db_failures") == 0


@pytest.mark.parametrize("what,says", [
    ("UPDATE version SET table_version = 7 WHERE table_name = 'cpm_rule';",
     r"table cpm_rule is of version 7, and version 1 is needed"),
    ("DELETE FROM version WHERE table_name = 'cpm_user';",
     r"no table cpm_user.*version 1 is needed.*cpm-db.sh create"),
    ("DROP TABLE version;", r"no table version.*cpm-db.sh create")],
    ids=["other", "missing", "none"])
def test_tables_of_a_wrong_version_stop_kamailio(empty, new_stack, what,
                                                 says):
    empty.create().sql(what)
    stack = new_stack(redis=False, **empty.stack())
    done = subprocess.run(stack.argv(), cwd=stack.directory,
                          capture_output=True, text=True, timeout=20,
                          env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert done.returncode != 0
    assert re.search(r"ERROR: cpm_pf.*" + says, done.stderr), \
        done.stderr[-2000:]
    assert databases.PASSWORD not in done.stderr


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_an_outage_stops_only_those_who_are_not_in_the_cache(
        servers, new_stack, tmp_path, kind):
    db = servers.database(kind, str(tmp_path)).create(sample=True)
    stack = new_stack({"prefs_cache_ttl": 1}, **db.stack()).start()
    stack.expect_log(DRIVER, r"prefs: database down")
    assert send(stack, "bob") == 202
    servers.get(kind).stop()
    # bob is too old by now, and all the same known
    wait_until(lambda: send(stack, "carol") == 503, 5, "carol is 503")
    for _ in range(5):
        assert send(stack, "bob") == 202
        assert send(stack, "carol") == 503
    assert stack.metric("db_up") == 0
    # asked once a second, not once a request
    failures = stack.metric("db_failures")
    for _ in range(20):
        send(stack, "carol")
    assert stack.metric("db_failures") <= failures + 3
    servers.get(kind)
    wait_until(lambda: send(stack, "carol") == 202, 10, "carol is back")
    assert stack.metric("db_up") == 1
    stack.kamailio.wait_log(r"NOTICE: cpm_pf.*prefs: database up")


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_kamailio_starts_without_its_database(servers, new_stack, tmp_path,
                                              kind):
    db = servers.database(kind, str(tmp_path)).create(sample=True)
    wrong = servers.database(kind, str(tmp_path)).create(sample=True)
    wrong.sql("UPDATE version SET table_version = 7;")
    server = servers.get(kind)
    server.stop()
    stacks = [new_stack(**d.stack()) for d in (db, wrong)]
    for stack in stacks:
        stack.expected = []
        stack.expect_log(DRIVER, r"prefs: .*cannot be reached",
                         r"prefs: table cpm_\w+ is of version 7")
        stack.start()
        assert send(stack, "bob") == 503
    servers.get(kind)
    wait_until(lambda: send(stacks[0], "bob") == 202, 10, "bob is 202")
    # what has become visible is not what it should be: no guess
    def refuses():
        assert send(stacks[1], "bob") == 503
        return "is of version 7" in stacks[1].kamailio.log()

    wait_until(refuses, 10, "the wrong version is named")


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_a_database_that_hangs_costs_a_process_seconds_and_others_nothing(
        servers, new_stack, tmp_path, kind):
    db = servers.database(kind, str(tmp_path)).create(sample=True)
    stack = new_stack(**db.stack()).start()
    stack.expect_log(DRIVER, r"prefs: database down")
    assert send(stack, "bob") == 202
    server = servers.get(kind)
    server.freeze()
    try:
        assert send(stack, "carol", timeout=30) == 503
        # a retransmission may still keep the second SIP worker
        wait_until(lambda: send(stack, "bob", timeout=30) == 202
                   and send(stack, "bob", timeout=30) == 202, 30)
        for _ in range(10):
            response = stack.ua("alice").message("sip:bob@example.org", b"x")
            assert response.code == 202
            assert response.elapsed < 1
    finally:
        server.thaw()
    wait_until(lambda: send(stack, "carol", timeout=30) == 202, 20)


def test_postgres_without_a_timeout_is_warned_of(servers, new_stack,
                                                 tmp_path):
    db = servers.database("postgres", str(tmp_path)).create()
    args = dict(db.stack(), cfg_edit=None)
    stack = new_stack(**args)
    stack.expect_log(r'modparam\("db_postgres", "timeout", 2\)')
    stack.start()
    stack.kamailio.wait_log(r"WARNING: cpm_pf .*db_postgres waits without")
