#!/usr/bin/env python3
"""A webhook receiver that trusts nothing but the PyPI library `standardwebhooks`.

    python3 webhook_signatures.py SECRET_FILE COUNT [SECONDS]

It prints its address, reads the signing secret from SECRET_FILE when the first delivery comes, and ends
once COUNT different messages were verified, or after SECONDS (60). Each message is also verified with one
byte changed, with another id, and with another secret: the library must refuse all three.

Exit codes: 0 = all verified, 1 = not all came or one was wrong, 77 = the library is not installed.
"""

import base64
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError
except ImportError as missing:
    print(f"skipped: {missing} (pip install standardwebhooks)")
    sys.exit(77)


class Judge:
    """What was verified, and what was wrong."""

    def __init__(self, secret_file, count):
        self.secret_file, self.count = secret_file, count
        self.lock, self.done = threading.Lock(), threading.Event()
        self.messages, self.deliveries, self.refused, self.wrong = set(), 0, 0, []

    def take(self, headers, body):
        with open(self.secret_file, encoding="ascii") as file:
            secret = file.read().strip()
        result = self.verified(secret, headers, body)
        with self.lock:
            self.deliveries += 1
            if result is not None:
                self.wrong.append(result)
                self.done.set()
                return False
            self.messages.add(headers["webhook-id"])
            if len(self.messages) >= self.count:
                self.done.set()
            return True

    def verified(self, secret, headers, body):
        """None when the library says what it should; what it said otherwise."""
        try:
            Webhook(secret).verify(body, headers)
        except Exception as error:  # whatever it is, the message was not verified
            return f"{headers.get('webhook-id')}: {type(error).__name__}: {error}"
        other = "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode()
        changed = bytes([body[0] ^ 1]) + body[1:]
        hostile = [
            ("a changed body", secret, headers, changed),
            ("another id", secret, {**headers, "webhook-id": "msg_another"}, body),
            ("another secret", other, headers, body),
        ]
        for what, key, head, content in hostile:
            try:
                Webhook(key).verify(content, head)
                return f"{headers['webhook-id']}: {what} was verified"
            except WebhookVerificationError:
                with self.lock:
                    self.refused += 1
        return None


def handler(judge):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(204 if judge.take(headers, body) else 401)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


def main():
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return 2
    judge = Judge(sys.argv[1], int(sys.argv[2]))
    seconds = float(sys.argv[3]) if len(sys.argv) == 4 else 60
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(judge))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on http://127.0.0.1:{server.server_port}/hooks", flush=True)
    judge.done.wait(seconds)
    server.shutdown()
    for wrong in judge.wrong:
        print(f"FAIL  {wrong}")
    print(
        f"PyPI standardwebhooks: {len(judge.messages)} of {judge.count} messages verified in "
        f"{judge.deliveries} deliveries, {judge.refused} hostile copies refused"
    )
    return 0 if len(judge.messages) == judge.count and not judge.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
