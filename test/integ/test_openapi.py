# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""openapi.json says what the endpoint does: every operation of it is asked,
every answer is held against it, and no route is missing on either side."""

import json
import os
import re
import urllib.parse

import jsonschema
import pytest

import harness
import test_admin_http
from test_admin_http import BOB, put, queue

admin = test_admin_http.admin  # a fixture

WORKER_DIR = os.path.join(harness.TOP, "modules", "cpm_pf", "worker")
FILE = os.path.join(harness.TOP, "modules", "cpm_pf", "doc", "openapi.json")
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# The page and what it is made of: for browsers, not for programs.
NOT_DESCRIBED = re.compile(r"^/($|[\w-]+\.(js|css|html|svg|ico)$)")


@pytest.fixture
def seeded(admin, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("read reader\nread-write writer\n")
    tokens.chmod(0o600)
    admin.start(admin_bodies="1", admin_token_file=str(tokens))
    admin.seed(
        put(id="id-1", subject="caf\u00e9", conv="c1", contr="c2"),
        put(id="id-2", expires=4102444800000), put(id="id-3"), put(id="id-4"),
        ("lease", BOB, "t1", 60000), ("dead", BOB, "id-1", "t1", "486"),
        ("lease", BOB, "t2", 60000),
        ("retry", BOB, "id-2", "t2", "480", 3600000),
        ("interwork", BOB, "id-3"))
    return admin


class Description:
    def __init__(self, doc):
        self.doc = doc
        self.resolver = jsonschema.RefResolver("", doc)

    def deref(self, node):
        while "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def operations(self):
        """(path, method, operation), with the parameters of the path."""
        for path, item in self.doc["paths"].items():
            for method in METHODS:
                if method in item:
                    op = dict(item[method])
                    op["parameters"] = [
                        self.deref(p) for p in item.get("parameters", [])
                        + op.get("parameters", [])]
                    yield path, method, op

    def validate(self, schema, value):
        jsonschema.Draft202012Validator(
            schema, resolver=self.resolver,
            format_checker=jsonschema.FormatChecker()).validate(value)

    def check(self, op, answer, what):
        """The answer is one that the operation may give."""
        described = op["responses"].get(str(answer.status))
        assert described is not None, (what, answer)
        described = self.deref(described)
        for name in described.get("headers", {}):
            assert answer.header(name) is not None, (what, name)
        content = described.get("content")
        if content is None:
            assert answer.text == "" and answer.type == "", what
            return
        assert answer.type in content, (what, answer.type)
        schema = content[answer.type]["schema"]
        if answer.type.endswith("json"):
            self.validate(schema, answer.json)
        else:
            assert answer.text


@pytest.fixture
def description(seeded):
    answer = seeded.http("/openapi.json")
    assert (answer.status, answer.type) == (200, "application/json")
    with open(FILE, encoding="utf-8") as f:
        assert answer.text == f.read()
    return Description(answer.json)


VALUES = {"user": BOB, "id": "id-2", "kind": "interwork", "limit": "2",
          "prefix": "sip:b", "older_than": "0", "state": "queued",
          "include": "body"}
# The job that there is, and an order in which nothing is gone too soon.
OF_JOBS = {"id": "id-3"}
ORDER = {"get": 0, "post": 1, "delete": 2}


def fill(path, values):
    return re.sub(r"\{(\w+)\}", lambda m: urllib.parse.quote(
        values[m[1]], safe=""), path)


def ask(admin, path, method, token="writer", body=None, type=None):
    headers = {"Authorization": "Bearer " + token} if token else {}
    if body is not None:
        headers["Content-Type"] = type or "application/json"
    return admin.http(path, method.upper(), headers=headers, body=body)


def test_it_is_what_it_claims_to_be(description):
    """OpenAPI 3.1, as far as this goes without its whole schema: what is
    referred to is there, every path variable is described, every schema is a
    schema."""
    doc = description.doc
    assert doc["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(doc["info"])
    refs = set(re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(doc)))
    for ref in refs:
        assert description.resolver.resolve(ref)[1]
    for kind, things in doc["components"].items():
        for name in things:
            if kind not in ("securitySchemes",):
                assert "#/components/%s/%s" % (kind, name) in refs, name
    for schema in doc["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [op["operationId"] for _, _, op in description.operations()]
    assert len(ids) == len(set(ids)) > 10
    for path, method, op in description.operations():
        named = {p["name"] for p in op["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path
        assert all(p["required"] for p in op["parameters"]
                   if p["in"] == "path")
        assert op["x-right"] == ("read" if method == "get" else "read-write")
        for code in op["responses"]:
            assert re.fullmatch(r"[245]\d\d", code)


def test_every_route_is_described_and_every_description_is_a_route(
        seeded, description):
    with open(os.path.join(WORKER_DIR, "admin_api.c"), encoding="utf-8") as f:
        routes = set(re.findall(
            r'\{\s*"([A-Z]+)",\s*"(/[^"]*)",\s*NEED_', f.read()))
    assert len(routes) > 10
    described = {(method.upper(), path)
                 for path, method, _ in description.operations()}
    assert {r for r in routes if not NOT_DESCRIBED.match(r[1])} == described
    # and the running one says the same of itself
    for path in description.doc["paths"]:
        answer = ask(seeded, fill(path, VALUES), "PUT")
        assert answer.status == 405
        allowed = {m for m in answer.header("Allow").split(", ")} - {"HEAD"}
        assert allowed == {m for m, p in described if p == path}


def test_every_operation_answers_as_it_is_described(seeded, description):
    operations = sorted(description.operations(),
                        key=lambda o: (ORDER[o[1]], o[0]))
    # what purges all is last
    operations.sort(key=lambda o: o[1] == "delete"
                    and o[0].endswith("/messages"))
    for path, method, op in operations:
        values = dict(VALUES, **(OF_JOBS if "/jobs/" in path else {}))
        if method == "post" and path.endswith("{id}/requeue") \
                and "/messages/" in path:
            values["id"] = "id-1"
        query = urllib.parse.urlencode({
            p["name"]: values[p["name"]] for p in op["parameters"]
            if p["in"] == "query" and p["name"] in values})
        target = fill(path, values) + ("?" + query if query else "")
        body = b"{}" if "requestBody" in op else None
        answer = ask(seeded, target, method, body=body)
        assert 200 <= answer.status < 300, (target, answer)
        description.check(op, answer, target)
        if op["parameters"] and op["parameters"][-1]["name"] == "cursor" or \
                any(p["name"] == "cursor" for p in op["parameters"]):
            assert set(answer.json) == {"items", "next"}
    # all that there was is seen to be gone
    assert ask(seeded, queue(), "get").status == 404
    assert ask(seeded, "/v1/jobs", "get").json["items"] == []


def test_lists_have_items_of_the_described_shape(seeded, description):
    for path in ("/v1/queues", "/v1/dead", "/v1/jobs",
                 queue(rest="/messages")):
        op = description.doc["paths"][
            path.replace(queue(), "/v1/queues/{user}")]["get"]
        answer = ask(seeded, path, "get", "reader")
        assert answer.json["items"], path
        description.check(op, answer, path)
        first = ask(seeded, path + "?limit=1", "get", "reader")
        description.check(op, first, path)
    assert {m["state"] for m in ask(seeded, queue(rest="/messages"), "get")
            .json["items"]} == {"dead", "queued"}


def test_every_refusal_is_a_described_problem(seeded, description):
    seen = set()

    def check(op, answer, status, what):
        assert answer.status == status, (what, answer)
        description.check(op, answer, what)
        assert answer.type == "application/problem+json"
        assert answer.json["status"] == status
        seen.add(status)

    for path, method, op in description.operations():
        target = fill(path, VALUES)
        near = path in ("/livez", "/readyz", "/metrics", "/openapi.json")
        if not near:
            check(op, ask(seeded, target, method, None), 401, target)
        if method != "get":
            check(op, ask(seeded, target, method, "reader"), 403, target)
        if not near:
            check(op, ask(seeded, target + "?nothing=1", method), 400, target)
        for p in op["parameters"]:
            if p["in"] == "path":
                bad = fill(path, dict(VALUES, **{p["name"]: "%% x"}))
                check(op, ask(seeded, bad, method), 400, bad)
            elif p["name"] != "prefix":
                bad = "%s?%s=-" % (target, p["name"])
                check(op, ask(seeded, bad, method), 400, bad)
        if "404" in op["responses"]:
            gone = fill(path, dict(VALUES, user="sip:nobody@example.org"))
            check(op, ask(seeded, gone, method), 404, gone)
        if "requestBody" in op:
            check(op, ask(seeded, target, method, body=b"{}",
                          type="text/plain"), 415, target)
            check(op, ask(seeded, target, method, body=b"{"), 400, target)
            check(op, ask(seeded, target, method, body=b" " * 70000), 413,
                  target)
    seeded.redis.kill()
    for path, method, op in description.operations():
        if "503" in op["responses"]:
            check(op, ask(seeded, fill(path, VALUES), method), 503, path)
    assert seen == {400, 401, 403, 404, 413, 415, 503}


def test_conflicts(seeded, description):
    seeded.seed(put(id="id-9"), ("lease", BOB, "t3", 600000),
                ("jobdo", BOB, "-"))
    states = {m["id"]: m["state"] for m in ask(
        seeded, queue(rest="/messages"), "get").json["items"]}
    away = [i for i, s in states.items() if s == "leased"]
    assert len(away) == 1
    for path, values in (
            ("/v1/queues/{user}/messages/{id}/requeue",
             dict(VALUES, id=away[0])),
            ("/v1/jobs/{kind}/{user}/{id}/requeue", dict(VALUES, **OF_JOBS))):
        answer = ask(seeded, fill(path, values), "post")
        assert answer.status == 409
        description.check(description.doc["paths"][path]["post"], answer, path)
