"""RateLimit fields of the API's answers, read by a parser of Structured Fields (RFC 9651) that this project did not write.

    python3 ratelimit_fields.py http://127.0.0.1:PORT KEY LIMITED_KEY

KEY is of a client with the service's limits, LIMITED_KEY of one with a small burst and quotas of the day. Ends with 77 when
http-sfv is not installed.
"""

import json
import sys
import urllib.error
import urllib.request

try:
    import http_sfv
except ImportError:
    print("skipped: no http-sfv")
    sys.exit(77)

POLICY, LIMIT = "RateLimit-Policy", "RateLimit"
PATHS = ["/v1/me", "/v1/integrations", "/v1/integrations/earthquakes/entities/us/latest", "/v1/me?odd=1", "/v1/replays/none"]


def check(holds, what):
    if not holds:
        print(f"FAIL {what}")
        sys.exit(1)


def ask(api, path, key):
    """Status, fields and body of an answer."""
    request = urllib.request.Request(api + path, headers={"x-api-key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read()


def items(headers, name):
    """The members of a field, as (name, parameters): each a String item, as the draft says."""
    values = headers.get_all(name)
    check(values, f"{name} is there")
    members = http_sfv.List()
    members.parse(", ".join(values).encode())
    found = {}
    for member in members:
        check(isinstance(member, http_sfv.Item), f"{name}: an item, not an inner list")
        check(type(member.value) is str, f"{name}: {member.value!r} is a String")
        check(member.value not in found, f"{name}: {member.value} comes once")
        found[member.value] = dict(member.params)
    return found


def whole(params, key, least=0):
    value = params.get(key)
    check(type(value) is int and value >= least, f"{key}={value!r} is a whole number from {least} on")
    return value


def judge(headers):
    """What holds between the two fields of any answer; gives what is left."""
    policies, limits = items(headers, POLICY), items(headers, LIMIT)
    check(set(policies) == set(limits), f"the same policies in both: {policies} {limits}")
    for name, params in policies.items():
        quota = whole(params, "q", 1)
        if "w" in params:
            whole(params, "w", 1)
        if "qu" in params:
            check(params["qu"] in ("concurrent-requests", "content-bytes"), f"{name}: unit {params['qu']!r} is one of the draft's")
        check(set(params) <= {"q", "w", "qu"}, f"{name}: {params}")
        left = limits[name]
        check(whole(left, "r") <= quota, f"{name}: no more is left than there is")
        if "t" in left:
            whole(left, "t")
        check(set(left) <= {"r", "t"}, f"{name}: {left}")
    return limits


def main(api, key, limited):
    for path in PATHS:
        status, headers, _ = ask(api, path, key)
        limits = judge(headers)
        check({"requests", "concurrent"} <= set(limits), f"{path}: {limits}")
        print(f"ok   {status} {path}: {', '.join(limits)}")
    status, headers, _ = ask(api, "/v1/me", None)
    check(status == 401 and not headers.get_all(LIMIT) and not headers.get_all(POLICY), "nobody in particular is told no limits")
    print("ok   401 without a key: none")

    lefts = []
    for _ in range(50):
        status, headers, body = ask(api, "/v1/me", limited)
        limits = judge(headers)
        check(set(limits) == {"requests", "concurrent", "daily-requests", "daily-bytes"}, f"{limits}")
        lefts.append(limits["daily-requests"]["r"])
        if status == 429:
            break
    check(status == 429, "its limit is reached")
    check(lefts == sorted(lefts, reverse=True) and lefts[0] > lefts[-1], f"what is left of the day goes down: {lefts}")
    violated = json.loads(body)["violated-policies"]
    check(violated == ["daily-requests"], f"violated: {violated}")
    check(all(limits[name]["r"] == 0 for name in violated), "nothing is left of what was violated")
    wait = int(headers["Retry-After"])
    check(wait >= 1 and abs(wait - limits[violated[0]]["t"]) <= 1, f"Retry-After {wait} is what the field says")
    print(f"ok   429 after {len(lefts)} requests: {violated[0]}, none left for {wait} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
