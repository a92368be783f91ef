#!/usr/bin/env python3
"""A client of assay's socket protocol in plain Python: hands a program in with tests, follows it, prints the verdict.

    client.py LANGUAGE FILE INPUT=EXPECTED...
    client.py python double.py 21=42 -4=-8

The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the client
connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
Exit status: 0 accepted, 1 not accepted, 2 refused.
"""

import base64
import json
import os
import socket
import sys
import time
import uuid

PATH = os.environ.get("ASSAY_SOCKET") or "/run/assay/assay.sock"
PATIENCE = 60.0  # seconds without any progress


class Refused(Exception):
    """An error reply. `code` is a word of a closed list, `retry_after_ms` says when it is worth another try."""

    def __init__(self, error):
        data = error.get("data", {})
        super().__init__(data.get("message") or error["message"])
        self.code = data.get("code", "internal")
        self.field = data.get("field")
        self.retry_after_ms = data.get("retry_after_ms")


class Connection:
    """One connection. It is the caller who has one call at a time here; the protocol would allow many."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.last_id = 0
        # the server speaks first; one that has too many connections says an error instead
        first = self.read()
        if "error" in first:
            raise Refused(first["error"])
        self.hello = first["params"]
        if self.hello["protocol"] != 1:
            raise SystemExit("%s speaks protocol %s, this client 1" % (path, self.hello["protocol"]))

    def read(self):
        line = self.lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the daemon closed the connection")
        return json.loads(line)

    def call(self, method, params, on_event=None):
        """The result; notifications that come before it go to `on_event`."""
        self.last_id += 1
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            message = self.read()
            if message.get("method") == "submission.event" and on_event:
                on_event(message["params"])
            elif message.get("id") == self.last_id and "method" not in message:
                if "error" in message:
                    raise Refused(message["error"])
                return message["result"]

    def close(self):
        self.lines.close()
        self.socket.close()


def judge(submission):
    """The report, whatever happens to the connection meanwhile."""
    next_seq, deadline = 0, time.monotonic() + PATIENCE

    def on_event(event):
        nonlocal next_seq, deadline
        next_seq, deadline = event["seq"] + 1, time.monotonic() + PATIENCE
        show(event)

    while True:
        connection = None
        try:
            connection = Connection(PATH)
            connection.call("submission.submit", submission)
            wait = {"id": submission["id"], "stream": True, "from_seq": next_seq}
            return connection.call("submission.wait", wait, on_event)
        except Refused as refused:
            if refused.retry_after_ms is None or time.monotonic() > deadline:
                raise
            print("refused (%s), trying again" % refused.code, file=sys.stderr)
            time.sleep(min(refused.retry_after_ms, 2000) / 1000)
        except OSError as error:  # among them: refused, reset, timed out, closed
            if time.monotonic() > deadline:
                raise
            print("connection lost (%s), connecting again" % error, file=sys.stderr)
            time.sleep(0.2)
        finally:
            if connection:
                connection.close()


def show(event):
    kind, data = event["kind"], event.get("data")
    if "data_b64" in event:  # output that is no UTF-8
        data = base64.b64decode(event["data_b64"]).decode(errors="replace")
    if kind in ("stdout", "stderr"):
        print("  %s: %s" % (event.get("test", kind), data.rstrip("\n")), file=sys.stderr)
    elif kind == "test":
        print("test %s: %s" % (event["test"], data), file=sys.stderr)
    else:
        print(kind if data is None else "%s: %s" % (kind, data), file=sys.stderr)


def main(arguments):
    if len(arguments) < 3:
        raise SystemExit(__doc__)
    language, path, pairs = arguments[0], arguments[1], arguments[2:]
    with open(path, encoding="utf-8") as file:
        content = file.read()
    tests = []
    for pair in pairs:
        stdin, _, expect = pair.partition("=")
        tests.append({"stdin": stdin + "\n", "expect": expect})
    name = os.path.basename(path)
    submission = {
        "id": os.environ.get("ASSAY_ID") or str(uuid.uuid4()),
        "language": language,
        "entry": name,
        "files": [{"path": name, "content": content}],
        "tests": tests,
    }
    try:
        report = judge(submission)
    except Refused as refused:
        print("refused: %s: %s" % (refused.code, refused), file=sys.stderr)
        return 2
    for test in report["tests"]:
        print(test["name"], test["verdict"])
    print(report["verdict"], "%d/%d" % (report["score"]["passed"], report["score"]["total"]))
    return 0 if report["verdict"] == "accepted" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
