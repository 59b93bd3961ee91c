#!/usr/bin/env python3
"""Filters as moto's EventBridge understands them: the same messages have to pass.

    python3 filters_moto.py SLUICEGATE [PATTERNS] [SEED]

Draws PATTERNS (60) patterns and 25 messages for each, from few values so that much matches, and has both
`sluicegate filter` and moto's matcher say which messages pass. What moto does not do as EventBridge does is not
drawn: objects inside arrays, empty arrays and objects, numbers beside true and false.

Exit codes: 0 = they agree, 1 = they differ, 77 = moto is not installed.
"""

import json
import random
import subprocess
import sys

try:
    from moto.events.models import EventPattern
except ImportError as missing:
    print(f"skipped: {missing} (pip install 'moto[events]')")
    sys.exit(77)

MESSAGES = 25
NAMES = ["a", "b", "c"]
TEXTS = ["", "x", "xy", "XY", "yx", "x*y", "us-east-1"]
NUMBERS = [0, 1, 1.0, -1, 2.5, 1e2, 300, 301.8]


def scalar(rng):
    return rng.choice([rng.choice(TEXTS), rng.choice(TEXTS), rng.choice(NUMBERS), None])


def message(rng, depth=2):
    made = {}
    for name in NAMES:
        kind = rng.random()
        if kind < 0.2:
            continue
        if kind < 0.4 and depth:
            made[name] = message(rng, depth - 1) or "x"
        elif kind < 0.6:
            made[name] = [scalar(rng) for _ in range(rng.randint(1, 3))]
        else:
            made[name] = scalar(rng)
    return made


def numeric(rng):
    low, high = sorted(rng.sample([-2, 0, 1, 2.5, 100, 301], 2))
    one = [rng.choice(["=", "<", "<=", ">", ">="]), rng.choice(NUMBERS)]
    return rng.choice([one, [rng.choice([">", ">="]), low, rng.choice(["<", "<="]), high]])


def operator(rng):
    text, several = rng.choice(TEXTS), rng.sample(TEXTS, 2)
    wildcard = rng.choice(["*", "x*", "*y", "x*y", r"x\*y", "*-*-1", "exact"])
    return rng.choice(
        [
            {"prefix": text},
            {"suffix": text},
            {"prefix": {"equals-ignore-case": text}},
            {"suffix": {"equals-ignore-case": text}},
            {"equals-ignore-case": text},
            {"wildcard": wildcard},
            {"exists": rng.random() < 0.5},
            {"numeric": numeric(rng)},
            {"anything-but": scalar(rng)},
            {"anything-but": several},
            {"anything-but": rng.sample(NUMBERS, 2)},
            {"anything-but": {"prefix": several}},
            {"anything-but": {"suffix": text}},
            {"anything-but": {"equals-ignore-case": several}},
            {"anything-but": {"wildcard": wildcard}},
        ]
    )


def pattern(rng, depth=2):
    made = {}
    for name in rng.sample(NAMES, rng.randint(1, 2)):
        if depth and rng.random() < 0.3:
            made[name] = pattern(rng, depth - 1)
        else:
            made[name] = [rng.choice([scalar, scalar, operator])(rng) for _ in range(rng.randint(1, 4))]
    if depth and rng.random() < 0.25:
        made["$or"] = [pattern(rng, depth - 1), pattern(rng, depth - 1)]
    return made


def has_objects_where_values_are_asked(asked, about):
    """moto takes an object for a value; EventBridge, and we, look only at what holds no others."""
    if not isinstance(about, dict):
        return False
    for name, wanted in asked.items():
        if name == "$or":
            if any(has_objects_where_values_are_asked(one, about) for one in wanted):
                return True
        elif isinstance(wanted, list):
            if isinstance(about.get(name), dict):
                return True
        elif has_objects_where_values_are_asked(wanted, about.get(name)):
            return True
    return False


def main():
    sluicegate = sys.argv[1]
    patterns = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 7)
    passed = refused = 0
    for _ in range(patterns):
        asked = pattern(rng)
        messages = [message(rng) for _ in range(MESSAGES)]
        messages = [m for m in messages if not has_objects_where_values_are_asked(asked, m)]
        lines = [json.dumps({"n": n, **m}) for n, m in enumerate(messages)]
        judge = EventPattern.load(json.dumps(asked))
        theirs = [line for line in lines if judge.matches_event(json.loads(line))]
        ran = subprocess.run(
            [sluicegate, "filter", json.dumps(asked)],
            input="\n".join(lines), capture_output=True, text=True, timeout=60, check=False,
        )
        ours = ran.stdout.splitlines()
        if ran.returncode != 0 or ran.stderr or ours != theirs:
            print(f"FAIL {json.dumps(asked)}\n{ran.stderr}")
            for line in sorted(set(ours) ^ set(theirs)):
                print(f"  {'only ours' if line in ours else 'only moto'}: {line}")
            return 1
        passed += len(ours)
        refused += len(lines) - len(ours)
    if min(passed, refused) < patterns:
        print(f"FAIL too little was drawn to tell: {passed} passed, {refused} did not")
        return 1
    print(f"ok   {patterns} filters agree about {passed + refused} messages: {passed} pass, {refused} do not")
    return 0


if __name__ == "__main__":
    sys.exit(main())
