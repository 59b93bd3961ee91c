#!/usr/bin/env python3
"""A webhook receiver that takes CloudEvents by the PyPI library `cloudevents` alone.

    python3 cloudevents_forms.py FORM COUNT [SECONDS]

FORM is cloudevents-structured, cloudevents-binary or cloudevents-batch. It prints its address and ends once
COUNT different events were read, or after SECONDS (60). Each must be a valid event of version 1.0 whose
attributes and data are those of an earthquake of tests/data.

Exit codes: 0 = all read, 1 = not all came or one was wrong, 77 = the library is not installed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

try:
    from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent
except ImportError as missing:
    print(f"skipped: {missing} (pip install cloudevents)")
    sys.exit(77)

TYPES = {
    "cloudevents-structured": "application/cloudevents+json",
    "cloudevents-binary": "application/json",
    "cloudevents-batch": "application/cloudevents-batch+json",
}


def events(form, headers, body):
    """The events of a request, as the library reads them."""
    if headers["content-type"] != TYPES[form]:
        raise ValueError(f"content-type is {headers['content-type']}")
    if form == "cloudevents-binary":
        return [from_binary(HTTPMessage(headers, body), JSONFormat(), CloudEvent)]
    if form == "cloudevents-structured":
        return [from_structured(HTTPMessage(headers, body), JSONFormat(), CloudEvent)]
    # The library has no batches: an element of the array is an event in JSON.
    return [JSONFormat().read(CloudEvent, json.dumps(element)) for element in json.loads(body)]


def wrong(event):
    """None when the event is what it should be; what is wrong otherwise."""
    data = event.get_data()
    if not isinstance(data, dict) or data.get("type") != "Feature":
        return f"data is {type(data).__name__}, no earthquake"
    found = {
        "specversion": event.get_specversion(),
        "id": event.get_id().startswith("msg_"),
        "source": event.get_source().startswith("/v1/integrations/"),
        "type": event.get_type().startswith("sluicegate."),
        "subject": bool(event.get_subject()),
        "time": event.get_time() is not None and event.get_time().tzinfo is not None,
        "datacontenttype": event.get_datacontenttype(),
        "partitionkey": event.get_extension("partitionkey"),
    }
    expected = {
        "specversion": "1.0",
        "id": True,
        "source": True,
        "type": True,
        "subject": True,
        "time": True,
        "datacontenttype": "application/json",
        "partitionkey": data["properties"]["net"],
    }
    return None if found == expected else f"{found} is not {expected}"


class Judge:
    """What was read, and what was wrong."""

    def __init__(self, form, count):
        self.form, self.count = form, count
        self.lock, self.done = threading.Lock(), threading.Event()
        self.ids, self.requests, self.wrong = set(), 0, []

    def take(self, headers, body):
        try:
            read = events(self.form, headers, body)
            problems = [problem for problem in map(wrong, read) if problem]
        except Exception as error:  # whatever it is, the library did not take it
            read, problems = [], [f"{type(error).__name__}: {error}"]
        with self.lock:
            self.requests += 1
            self.wrong += problems
            self.ids.update(event.get_id() for event in read)
            if self.wrong or len(self.ids) >= self.count:
                self.done.set()
        return not problems


def handler(judge):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(204 if judge.take(headers, body) else 400)
            self.end_headers()

        def log_message(self, *_):
            pass

    return Handler


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in TYPES:
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
    for problem in judge.wrong:
        print(f"FAIL  {problem}")
    print(
        f"PyPI cloudevents: {len(judge.ids)} of {judge.count} events read as {judge.form} "
        f"in {judge.requests} requests"
    )
    return 0 if len(judge.ids) == judge.count and not judge.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
