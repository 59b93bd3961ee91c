#!/usr/bin/env python3
"""A webhook receiver that trusts nothing but the PyPI libraries `standardwebhooks` and `cryptography`.

    python3 webhook_signatures.py SECRET_FILE COUNT [SECONDS]

SECRET_FILE has a key a line: shared secrets (whsec_), which `standardwebhooks` verifies with, and public keys
(whpk_), which Ed25519 of `cryptography` does. While keys are rotated each of them has signed every message.
It prints its address, reads the keys when the first delivery comes, and ends once COUNT different messages were
verified, or after SECONDS (60). With each key a message is also verified with one byte changed, with another id,
and with another key: all three must be refused.

Exit codes: 0 = all verified, 1 = not all came or one was wrong, 77 = a library is not installed.
"""

import base64
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError
except ImportError as missing:
    print(f"skipped: {missing} (pip install standardwebhooks cryptography)")
    sys.exit(77)

OTHERS = {
    "whsec_": "whsec_" + base64.b64encode(b"another secret of 32 bytes......").decode(),
    # Of RFC 8032's first test.
    "whpk_": "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
}


def verify(key, headers, body):
    """Raises when the key has not signed this."""
    if key.startswith("whsec_"):
        return Webhook(key).verify(body, headers)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signed = headers["webhook-signature"].split(" ")
    for signature in (text.removeprefix("v1a,") for text in signed if text.startswith("v1a,")):
        try:
            return public.verify(base64.b64decode(signature), content)
        except InvalidSignature:
            continue
    raise InvalidSignature("no v1a signature fits")


class Judge:
    """What was verified, and what was wrong."""

    def __init__(self, secret_file, count):
        self.secret_file, self.count = secret_file, count
        self.lock, self.done = threading.Lock(), threading.Event()
        self.messages, self.deliveries, self.refused, self.wrong = set(), 0, 0, []

    def take(self, headers, body):
        with open(self.secret_file, encoding="ascii") as file:
            keys = file.read().split()
        results = [self.verified(key, headers, body) for key in keys] or ["there is no key"]
        result = next(filter(None, results), None)
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

    def verified(self, key, headers, body):
        """None when the library says what it should; what it said otherwise."""
        kind = key[: key.index("_") + 1]
        try:
            verify(key, headers, body)
        except Exception as error:  # whatever it is, the message was not verified
            return f"{headers.get('webhook-id')}: {kind}: {type(error).__name__}: {error}"
        changed = bytes([body[0] ^ 1]) + body[1:]
        hostile = [
            ("a changed body", key, headers, changed),
            ("another id", key, {**headers, "webhook-id": "msg_another"}, body),
            ("another key", OTHERS[kind], headers, body),
        ]
        for what, used, head, content in hostile:
            try:
                verify(used, head, content)
                return f"{headers['webhook-id']}: {kind}: {what} was verified"
            except (WebhookVerificationError, InvalidSignature):
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
