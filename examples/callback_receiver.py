#!/usr/bin/env python3
"""A receiver of assay's callbacks in plain Python: checks the signature, drops repeats, prints the verdict.

    CALLBACK_KEY=... callback_receiver.py [PORT]

CALLBACK_KEY is the key that `assay token add` printed. A receiver has ten seconds to answer: work that takes longer goes to
a queue first. Behind a reverse proxy with TLS; assay connects over https unless the operator named this address with http.
"""

import hashlib
import hmac
import http.server
import json
import os
import sys
import time

KEY = os.environ["CALLBACK_KEY"].encode()
MAX_AGE = 300  # seconds: an older signature may be a replay
MAX_BYTES = 8 << 20  # the largest report

seen = set()  # a real receiver keeps it where it keeps its results


def is_signed(header, body):
    """Whether the header is a signature of this body that was made a moment ago."""
    parts = dict(part.split("=", 1) for part in header.split(",") if "=" in part)
    seconds = parts.get("t", "")
    if not seconds.isdecimal() or abs(time.time() - int(seconds)) > MAX_AGE:
        return False
    expected = hmac.new(KEY, seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts.get("v1", ""))


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.headers.get("Assay-Signature", ""), body):
            return self.answer(401)
        delivery = self.headers.get("Assay-Delivery")
        if delivery not in seen:
            seen.add(delivery)
            report = json.loads(body)
            print(report["id"], report["verdict"], flush=True)
        return self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Receiver)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
