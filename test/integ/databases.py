# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""Private databases for tests: SQLite, MariaDB and PostgreSQL.

A Server is a database server of the test's own, in a temporary directory, on
a free port of 127.0.0.1. Server.database() makes an empty database in it.
Neither server runs as root: PostgreSQL refuses to, so both take the user that
their packages bring.
"""

import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import HOST, Program, TOP, free_port, wait_until

CPM_DB = os.path.join(TOP, "tools", "cpm-db.sh")
# what a quoting mistake would stumble over, as far as a URL can have it
PASSWORD = "s3:cr'et$x"

_numbers = itertools.count(1)


def run(argv, text=None, env=None, check=True, **kw):
    done = subprocess.run(argv, input=text, capture_output=True, text=True,
                          timeout=60, env=dict(os.environ, **(env or {})),
                          **kw)
    if check:
        assert done.returncode == 0, "%s: %s%s" % (
            argv[0], done.stdout, done.stderr)
    return done


def cpm_db(action, *url, env=None, check=True, **kw):
    """tools/cpm-db.sh"""
    return run([CPM_DB, action, *url], env=env, check=check, **kw)


class Database:
    """One database. url: as for db_url; sql(): its rows, '|' between."""

    def create(self, sample=False):
        cpm_db("create", self.url)
        if sample:
            cpm_db("sample", self.url)
        return self

    def sql(self, text):
        done = self.client(text)
        assert done.returncode == 0, done.stderr
        return [line.replace("\t", "|")
                for line in done.stdout.split("\n") if line]

    def fails(self, text):
        return self.client(text).returncode != 0

    settings = ""  # of the database module, in the configuration

    def stack(self):
        """Arguments for harness.Stack."""
        args = {"defines": {"DB_URL": '"%s"' % self.url,
                            "DB_MODULE": '"db_%s.so"' % self.kind}}
        if self.settings:
            args["cfg_edit"] = ("\nloadmodule DB_MODULE\n",
                                "\nloadmodule DB_MODULE\n" + self.settings)
        return args


class Sqlite(Database):
    kind = "sqlite"

    def __init__(self, directory):
        self.path = os.path.join(directory, "cpm%d.db" % next(_numbers))
        self.url = "sqlite:///" + self.path

    def client(self, text):
        return run(["sqlite3", "-bail", "-batch", "-init", os.devnull,
                    "-cmd", ".timeout 5000", self.path], text, check=False)


class Mysql(Database):
    kind = "mysql"

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.url = "mysql://cpm:%s@%s:%d/%s" % (
            PASSWORD, HOST, server.port, name)

    def client(self, text):
        return self.server.admin(text, self.name)


class Postgres(Database):
    kind = "postgres"
    settings = ('modparam("db_postgres", "timeout", 1)\n'
                'modparam("db_postgres", "retries", 0)\n')

    def __init__(self, server, name):
        self.server, self.name = server, name
        self.url = "postgres://cpm:%s@%s:%d/%s" % (
            PASSWORD, HOST, server.port, name)

    def client(self, text):
        return run(["psql", "-X", "-q", "-A", "-t", "-w", "-v",
                    "ON_ERROR_STOP=1", "-h", HOST, "-p",
                    str(self.server.port), "-U", "cpm", self.name], text,
                   {"PGPASSWORD": PASSWORD}, check=False)


class Server:
    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="cpm-%s-" % self.kind)
        self.data = os.path.join(self.directory, "data")
        self.port = free_port()
        self.program = None
        self.prefix = []
        os.mkdir(self.data, 0o700)
        if os.getuid() == 0:
            user = pwd.getpwnam(self.account)
            for path in (self.directory, self.data):
                os.chown(path, user.pw_uid, user.pw_gid)
            self.prefix = ["setpriv", "--reuid", self.account, "--regid",
                           str(user.pw_gid), "--clear-groups"]

    def start(self):
        self.program = Program(self.kind, self.prefix + self.argv(),
                               self.directory)
        wait_until(self.answers, 30, "%s answers" % self.kind)

    def stop(self):
        """As its manager would stop it; its data stay."""
        if self.program:
            if self.program.running:
                self.program.signal(self.stop_signal)
                self.program.process.wait(30)
            self.program.expect_none_left()

    def signal_all(self, number):
        """To the server and its processes, which leave its group."""
        pids = run(["pgrep", "-P", str(self.program.pid)], check=False)
        for pid in [self.program.pid] + pids.stdout.split():
            os.kill(int(pid), number)

    def freeze(self):
        self.signal_all(signal.SIGSTOP)

    def thaw(self):
        self.signal_all(signal.SIGCONT)

    def close(self):
        try:
            self.stop()
        finally:
            if self.program:
                self.program.kill()
            shutil.rmtree(self.directory, ignore_errors=True)


class MysqlServer(Server):
    kind = "mysql"
    account = "mysql"
    stop_signal = signal.SIGTERM

    def __init__(self):
        super().__init__()
        self.socket = os.path.join(self.directory, "s")
        run(self.prefix + ["mariadb-install-db", "--no-defaults",
                           "--datadir=" + self.data, "--skip-test-db",
                           "--auth-root-authentication-method=normal"],
            cwd=self.directory)
        self.start()
        self.admin("CREATE USER cpm@'%%' IDENTIFIED BY '%s';"
                   "GRANT ALL ON *.* TO cpm@'%%';"
                   % PASSWORD.replace("'", "''"))

    def argv(self):
        return [shutil.which("mariadbd", path="/usr/sbin:/usr/bin"),
                "--no-defaults", "--datadir=" + self.data,
                "--socket=" + self.socket, "--port=%d" % self.port,
                "--bind-address=" + HOST, "--skip-name-resolve",
                "--pid-file=" + os.path.join(self.directory, "pid"),
                "--innodb-flush-log-at-trx-commit=0"]

    def admin(self, text, database="mysql"):
        return run(["mysql", "--no-defaults", "--socket=" + self.socket,
                    "--user=root", "--batch", "--skip-column-names",
                    "--default-character-set=utf8mb4", database], text,
                   check=False)

    def answers(self):
        return self.admin("SELECT 1").returncode == 0

    def database(self):
        name = "cpm%d" % next(_numbers)
        assert self.admin("CREATE DATABASE %s" % name).returncode == 0
        return Mysql(self, name)


class PostgresServer(Server):
    kind = "postgres"
    account = "postgres"
    stop_signal = signal.SIGINT  # without waiting for clients

    def __init__(self):
        super().__init__()
        pwfile = os.path.join(self.directory, "pw")
        with open(pwfile, "w") as f:
            f.write(PASSWORD + "\n")
        run(self.prefix + [self.bin("initdb"), "-D", self.data, "-U", "cpm",
                           "-A", "scram-sha-256", "--pwfile=" + pwfile,
                           "-E", "UTF8", "--locale=C", "-N"],
            cwd=self.directory)
        self.start()

    @staticmethod
    def bin(name):
        return max(glob.glob("/usr/lib/postgresql/*/bin/" + name))

    def argv(self):
        return [self.bin("postgres"), "-D", self.data, "-p", str(self.port),
                "-h", HOST, "-k", self.directory, "-c", "fsync=off"]

    def answers(self):
        return Postgres(self, "postgres").client("SELECT 1").returncode == 0

    def database(self):
        name = "cpm%d" % next(_numbers)
        Postgres(self, "postgres").sql("CREATE DATABASE %s" % name)
        return Postgres(self, name)


def _installed(kind):
    if kind == "mysql":
        return shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    return glob.glob("/usr/lib/postgresql/*/bin/postgres")


class Servers:
    """Starts each kind when it is first asked for."""

    kinds = {"mysql": MysqlServer, "postgres": PostgresServer}

    def __init__(self):
        self.started = {}

    def get(self, kind):
        if kind not in self.started:
            if not _installed(kind):
                pytest.fail("no %s server is installed; tools/bootstrap.sh test "
                            "brings it" % kind)
            self.started[kind] = self.kinds[kind]()
        if not self.started[kind].program.running:
            self.started[kind].start()
        return self.started[kind]

    def database(self, kind, directory):
        if kind == "sqlite":
            return Sqlite(directory)
        return self.get(kind).database()

    def close(self):
        for server in self.started.values():
            server.close()
