# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""A private Dovecot, and a proxy in front of it that loses answers.

Dovecot runs without rights, on a free port of 127.0.0.1, with one
configuration file and everything that it writes below a directory of its own.
"""

import contextlib
import grp
import imaplib
import os
import pwd
import re
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from harness import HOST, Failure, free_port, need, wait_until

PASSWORD = "wonder land \"quoted\\"   # a password needs quoting, once
MASTER = "cpmstore"
MASTER_PASSWORD = "m4ster-secret-of-the-store"

CONFIG = """
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_uid = {uid}
mail_gid = {gid}
mail_home = {dir}/mail/%u
mail_location = {format}:~/mail{layout}
protocols = imap
listen = {host}
ssl = {ssl}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_master_user_separator = *
auth_failure_delay = 0
auth_cache_size = 0
mail_plugins = {plugins}
namespace inbox {{
  inbox = yes
  separator = {separator}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {dir}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {dir}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={dir}/mail/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {ssl_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
protocol imap {{
  mail_plugins = {imap_plugins}
}}
{extra}
"""


def plain_user():
    """Whom Dovecot is to run as: never root."""
    return pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(
        os.getuid())


class Dovecot:
    def __init__(self, users=("bob@example.org",), tls=None, ssl_mode=None,
                 separator="/", quota=None, mailbox_format="maildir",
                 extra=""):
        """tls: (certificate, key) PEM files. quota: bytes of a user."""
        need("dovecot")
        self.user = plain_user()
        self.dir = tempfile.mkdtemp(prefix="cpm-dovecot-", dir="/tmp")
        self.port, self.ssl_port = free_port(), free_port()
        self.process = None
        self.separator = separator
        self.users = {user: PASSWORD for user in users}
        plugins, imap_plugins = "", "$mail_plugins"
        if quota is not None:
            plugins, imap_plugins = "quota", "$mail_plugins imap_quota"
            extra += "plugin {\n  quota = count:User quota\n  quota_rule = " \
                "*:storage=%dB\n  quota_vsizes = yes\n  quota_grace = 0\n}\n" \
                % quota
        if tls:
            extra += "ssl_cert = <%s/cert.pem\nssl_key = <%s/key.pem\n" % (
                self.dir, self.dir)
            shutil.copy(tls[0], self.dir + "/cert.pem")
            shutil.copy(tls[1], self.dir + "/key.pem")
        for name in ("run", "state", "mail"):
            os.mkdir(os.path.join(self.dir, name))
        with open(self.dir + "/dovecot.conf", "w") as f:
            f.write(CONFIG.format(
                dir=self.dir, user=self.user.pw_name, uid=self.user.pw_uid,
                gid=self.user.pw_gid,
                group=grp.getgrgid(self.user.pw_gid).gr_name, host=HOST,
                port=self.port, ssl_port=self.ssl_port if tls else 0,
                ssl=ssl_mode or ("yes" if tls else "no"), separator=separator,
                layout=":LAYOUT=fs" if mailbox_format == "maildir" else "",
                format=mailbox_format, plugins=plugins,
                imap_plugins=imap_plugins, extra=extra))
        self.passwords(MASTER_PASSWORD)
        for directory, _, files in os.walk(self.dir):
            for path in [directory] + [os.path.join(directory, f)
                                       for f in files]:
                if os.getuid() == 0:
                    os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def passwords(self, master):
        """Of the service account, from now on; the users have theirs."""
        for name, lines in (("masters", {MASTER: master}),
                            ("users", dict(self.users, **{MASTER: master}))):
            path = os.path.join(self.dir, name)
            with open(path, "w") as f:
                for user, password in lines.items():
                    f.write("%s:{PLAIN}%s\n" % (user, password))
            os.chmod(path, 0o644)

    def start(self):
        kw = {}
        if os.getuid() == 0:
            kw = {"user": self.user.pw_uid, "group": self.user.pw_gid,
                  "extra_groups": []}
        env = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin")
        self.process = subprocess.Popen(
            ["dovecot", "-F", "-c", self.dir + "/dovecot.conf"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT, cwd=self.dir, env=env,
            start_new_session=True, **kw)
        try:
            wait_until(self._answers, 15, "Dovecot answers")
        except Failure as e:
            raise Failure("%s\n%s" % (e, self.log()))
        return self

    def _answers(self):
        if self.process.poll() is not None:
            raise Failure("Dovecot ended (%s):\n%s" % (
                self.process.returncode, self.log()))
        try:
            with socket.create_connection((HOST, self.port), 1) as s:
                return s.recv(4) == b"* OK"
        except OSError:
            return False

    def log(self):
        try:
            with open(self.dir + "/dovecot.log") as f:
                return f.read()
        except OSError:
            return ""

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)
        self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    @contextlib.contextmanager
    def client(self, user="bob@example.org"):
        """A plain IMAP client of this user."""
        c = imaplib.IMAP4(HOST, self.port, timeout=10)
        try:
            c.login(user, self.users[user])
            yield c
        finally:
            try:
                c.logout()
            except (OSError, imaplib.IMAP4.error):
                pass

    def folders(self, user="bob@example.org"):
        with self.client(user) as c:
            _, rows = c.list()
        names = []
        for row in rows:
            if isinstance(row, tuple):      # the name came as a literal
                names.append(row[1].decode())
                continue
            if row:
                name = row.decode().partition(
                    '"%s" ' % self.separator)[2]
                names.append(name.strip('"'))
        return names

    def messages(self, folder, user="bob@example.org"):
        """[(flags and date, bytes)] of a folder; empty if there is none."""
        with self.client(user) as c:
            status, _ = c.select('"%s"' % folder, readonly=True)
            if status != "OK":
                return []
            _, (numbers,) = c.search(None, "ALL")
            found = []
            for number in numbers.split():
                _, data = c.fetch(number, "(FLAGS INTERNALDATE BODY.PEEK[])")
                head = data[0][0].decode()
                if len(data) > 1 and isinstance(data[1], bytes):
                    head += data[1].decode()
                found.append((head, data[0][1]))
            return found

    def everything(self, user="bob@example.org"):
        """{folder: [bytes]} of all folders that hold something."""
        out = {}
        for folder in self.folders(user):
            rows = [data for _, data in self.messages(folder, user)]
            if rows:
                out[folder] = rows
        return out


def certificate(directory, name="127.0.0.1", ca=None):
    """A CA's and a server's PEM files: (ca, certificate, key). ca: sign with
    this CA's (certificate, key)."""
    need("openssl")

    def run(*argv):
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
    d = str(directory)
    if ca is None:
        ca = (d + "/ca.pem", d + "/ca.key")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
            "-keyout", ca[1], "-out", ca[0], "-days", "30", "-subj",
            "/CN=a private CA", "-addext",
            "basicConstraints=critical,CA:TRUE")
    key, csr, cert = (d + "/" + n for n in ("tls.key", "tls.csr", "tls.pem"))
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
        "-out", csr, "-subj", "/CN=%s" % name)
    with open(d + "/tls.ext", "w") as f:
        f.write("subjectAltName=%s:%s\n" % (
            "IP" if name[0].isdigit() else "DNS", name))
    run("openssl", "x509", "-req", "-in", csr, "-CA", ca[0], "-CAkey", ca[1],
        "-CAcreateserial", "-out", cert, "-days", "30", "-extfile",
        d + "/tls.ext")
    return ca[0], cert, key


class Proxy:
    """Between a client and an IMAP server. swallow: how many answers to
    APPEND do not arrive, because the connection is cut instead. delay: each
    answer is so late, in seconds."""

    def __init__(self, target_port):
        self.target = target_port
        self.swallow = 0
        self.swallowed = 0
        self.silent = False     # takes connections and says nothing
        self.delay = 0.0
        self.connections = 0
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        self._open = set()
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self._closing:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,),
                             daemon=True).start()

    def _serve(self, client):
        self._open.add(client)
        server = None
        tag, said = None, b""
        try:
            if self.silent:
                while client.recv(4096):
                    pass
                return
            server = socket.create_connection((HOST, self.target), 5)
            server.settimeout(None)
            self._open.add(server)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    data = client.recv(65536)
                    if not data:
                        return
                    # a command may come in pieces
                    said = (said + data)[-65536 - 4096:]
                    for found in re.finditer(rb"(?:^|\n)(\S+) APPEND ", said):
                        tag = found[1]
                    server.sendall(data)
                if server in ready:
                    data = server.recv(65536)
                    if not data:
                        return
                    if tag and self.swallow > 0 and (
                            tag + b" OK") in data:
                        self.swallow -= 1
                        self.swallowed += 1
                        return
                    if self.delay:
                        time.sleep(self.delay)
                    client.sendall(data)
        except OSError:
            pass
        finally:
            for s in (client, server):
                if s is not None:
                    self._open.discard(s)
                    s.close()

    def close(self):
        self._closing = True
        for s in [self.listener] + list(self._open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
