#!/usr/bin/env python3
"""A client of assay's HTTP API in plain Python: hands a program in with tests, follows it, prints the verdict.

    http_client.py LANGUAGE FILE INPUT=EXPECTED...
    http_client.py python double.py 21=42 -4=-8

ASSAY_URL is the listener, http://127.0.0.1:9464 or unix:/run/assay/http.sock; ASSAY_TOKEN a token of `assay token add`.
The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the
client connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
Exit status: 0 accepted, 1 not accepted, 2 refused.
"""

import base64
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
import uuid

URL = os.environ.get("ASSAY_URL") or "http://127.0.0.1:9464"
TOKEN = os.environ.get("ASSAY_TOKEN") or ""
PATIENCE = 60.0  # seconds without any progress


class Refused(Exception):
    """A problem+json answer. `code` is a word of a closed list, `retry_after` are seconds, or None: not worth another try."""

    def __init__(self, response):
        body = response.read()
        problem = json.loads(body) if response.headers.get_content_type() == "application/problem+json" else {}
        super().__init__(problem.get("detail") or "status %d" % response.status)
        self.code = problem.get("code", "internal")
        after = response.headers.get("Retry-After")
        self.retry_after = float(after) if after else None


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def connect():
    if URL.startswith("unix:"):
        return UnixConnection(URL[len("unix:") :], PATIENCE)
    url = urllib.parse.urlsplit(URL)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname, url.port, timeout=PATIENCE)


def ask(connection, method, path, body=None, headers=None):
    """The response of a request that was not refused; it must be read before the next one."""
    headers = {"Authorization": "Bearer " + TOKEN, **(headers or {})}
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body).encode()
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    if response.status >= 400:
        raise Refused(response)
    return response


def events(response):
    """The events of a stream: each is some `name: value` lines and an empty one. After `done` there is none; a broken stream is
    an error."""
    kind, data = "", []
    for line in response:
        line = line.decode().rstrip("\r\n")
        name, _, value = line.partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data" and value:
            data.append(value)
        elif not line and kind == "done":
            response.read()
            return
        elif not line and data:
            yield json.loads("\n".join(data))
            kind, data = "", []
    raise http.client.IncompleteRead(b"")


def judge(submission):
    """The report, whatever happens to the connection meanwhile."""
    last_seq, deadline = None, time.monotonic() + PATIENCE
    path = "/api/v1/submissions/" + urllib.parse.quote(submission["id"], safe="")
    while True:
        connection = connect()
        try:
            ask(connection, "POST", "/api/v1/submissions?wait=false", submission).read()
            headers = {} if last_seq is None else {"Last-Event-ID": str(last_seq)}
            for event in events(ask(connection, "GET", path + "/events", headers=headers)):
                last_seq, deadline = event["seq"], time.monotonic() + PATIENCE
                show(event)
            state = json.loads(ask(connection, "GET", path + "?wait_ms=10000").read())
            if state["state"] == "done":
                return state["report"]
        except Refused as refused:
            if refused.retry_after is None or time.monotonic() > deadline:
                raise
            print("refused (%s), trying again" % refused.code, file=sys.stderr)
            time.sleep(min(refused.retry_after, 2))
        except (OSError, http.client.HTTPException) as error:  # among them: refused, reset, timed out, cut off
            if time.monotonic() > deadline:
                raise
            print("connection lost (%r), connecting again" % error, file=sys.stderr)
            time.sleep(0.2)
        finally:
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
