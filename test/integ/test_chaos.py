# Copyright (C) 2026 the cpm_pf authors
# SPDX-License-Identifier: GPL-2.0-or-later
"""The chaos test in its short form, and whether its judge would notice."""

import json
import os
import subprocess
import sys

from harness import TOP

CHAOS = os.path.join(TOP, "test", "chaos")
sys.path.insert(0, CHAOS)

from judge import judge  # noqa: E402


def test_no_message_is_lost_while_everything_breaks(tmp_path):
    run = subprocess.run(
        ["timeout", "-k", "20", "150", sys.executable,
         os.path.join(CHAOS, "chaos.py"), "--short",
         "--dir", str(tmp_path / "run")]
        + (["--seed", os.environ["SEED"]] if os.environ.get("SEED") else []),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout[-6000:]
    assert "chaos: ok" in run.stdout


# ---- the judge, on ledgers of which is known what is wrong with them


def send(ident, t, **kw):
    return dict({"e": "send", "t": t, "id": ident, "r": "bob", "a": 1,
                 "node": 0, "body": "b", "x": 0}, **kw)


def fin(ident, t, code=202, how="accepted"):
    return {"e": "fin", "t": t, "id": ident, "how": how, "code": code}


def arr(ident, t, **kw):
    return dict({"e": "arr", "t": t, "id": ident, "r": "bob", "node": 0,
                 "cid": "c" + ident, "act": "take", "body": "b"}, **kw)


def end(ident, t, code):
    return {"e": "end", "t": t, "id": ident, "a": 1, "code": code}


def fault(t0, t1, scope="all"):
    return {"e": "fault", "t": t1, "kind": "x", "t0": t0, "t1": t1,
            "scope": scope}


def told(tmp_path, *events):
    """What the judge says of a ledger: its violations, as one text."""
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return "\n".join("%s %s" % v for v in judge(str(path)).violations)


def test_the_judge_finds_nothing_where_nothing_is_wrong(tmp_path):
    assert told(tmp_path, send("1", 1), fin("1", 2), send("2", 3),
                fin("2", 4), arr("1", 5), arr("2", 6)) == ""
    assert told(tmp_path, send("1", 1), fin("1", 2),
                {"e": "left", "t": 9, "id": "1", "r": "bob",
                 "state": "D"}) == ""
    assert told(tmp_path, send("1", 1), fin("1", 2, 0, "unanswered")) == ""


def test_the_judge_finds_a_lost_message(tmp_path):
    assert "LOST" in told(tmp_path, send("1", 1), fin("1", 2))
    # a client that was asked and did not take it has not got it
    assert "LOST" in told(tmp_path, send("1", 1), fin("1", 2),
                          arr("1", 3, act="486"))
    # an Expires is no excuse where the expiry could have been reported
    assert "is gone" in told(tmp_path, send("1", 1, x=5), fin("1", 2),
                             fault(100, 101))
    assert told(tmp_path, send("1", 1, x=5), fin("1", 2), fault(8, 9)) == ""


def test_the_judge_finds_a_wrong_order(tmp_path):
    wrong = (send("1", 1), fin("1", 2), send("2", 3), fin("2", 4),
             arr("2", 5), arr("1", 6))
    assert "arrived before" in told(tmp_path, *wrong)
    assert "arrived before" not in told(
        tmp_path, *wrong[:4], arr("1", 4.5, act="415"), *wrong[4:])
    # at once, or past the queue: nothing is asked
    assert told(tmp_path, send("1", 1), send("2", 1), fin("1", 2),
                fin("2", 2), arr("2", 5), arr("1", 6)) == ""
    assert told(tmp_path, *wrong[:4], arr("2", 5, cid="own"),
                arr("1", 6)) == ""


def test_the_judge_finds_a_duplicate_without_a_reason(tmp_path):
    once = (send("1", 1), fin("1", 2), arr("1", 10))
    assert "no reason" in told(tmp_path, *once, arr("1", 12))
    assert "no reason" in told(tmp_path, *once, arr("1", 12),
                               fault(20, 21), fault(10, 12, 1))
    assert told(tmp_path, *once, arr("1", 12), fault(9, 11, 0)) == ""
    assert told(tmp_path, send("1", 1), fin("1", 2),
                arr("1", 10, act="lost"), arr("1", 12)) == ""
    again = (send("1", 1), end("1", 2, 503), fin("1", 3))
    assert told(tmp_path, *again, arr("1", 4, cid="own"), arr("1", 5)) == ""
    assert "no reason" in told(tmp_path, *again, arr("1", 4), arr("1", 5))
    slow = (send("1", 1), {"e": "rep", "t": 1.5, "id": "1", "node": 0},
            arr("1", 30), fin("1", 30), arr("1", 31, cid="own"))
    assert "no reason" in told(tmp_path, *slow)
    # a fault where the retransmission went is no reason either
    assert "no reason" in told(tmp_path, *slow, fault(1, 2, 0))
    assert "two Call-IDs" in told(tmp_path, send("1", 1), fin("1", 2),
                                  arr("1", 3, act="lost"),
                                  arr("1", 4, cid="other"))


def test_the_judge_finds_what_is_altered_or_misdirected(tmp_path):
    sent = (send("1", 1), fin("1", 2))
    assert "other bytes" in told(tmp_path, *sent, arr("1", 3, body="B"))
    assert "arrived at carol" in told(tmp_path, *sent,
                                      arr("1", 3, r="carol"))
    assert "never sent" in told(tmp_path, arr("1", 3))
    assert "twice" in told(tmp_path, *sent, *[
        {"e": "left", "t": 9, "id": "1", "r": "bob", "state": "D"}] * 2)
