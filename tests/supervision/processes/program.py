"""A small program that speaks the control protocol by itself: it starts quicker than one that imports Callboard.

Its greeting is the list of what it does to prepare itself, one step after the other, and its assignment the list of
what follows; see ``STEPS``. SIGTERM ends it with exit code 0.
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

link = socket.socket(fileno=int(os.environ["CALLBOARD_CONTROL_DESCRIPTOR"]))
lines = link.makefile("r")


def say(*message):
    link.sendall(json.dumps(message).encode() + b"\n")


def wait_for_order(name):
    while (line := lines.readline()) and json.loads(line)[0] != name:
        pass


def beat():
    while True:
        say("beat")
        time.sleep(0.02)


def leave_child(file):
    Path(file).write_text(str(os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")))


STEPS = {
    "ready": lambda: say("ready"),
    "beat": lambda: threading.Thread(target=beat, daemon=True).start(),
    "fail": lambda text: say("failed", text),
    "garbage": lambda: link.sendall(b"garbage\n"),
    "exit": lambda code: os._exit(code),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "ignore_term": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "wait_retire": lambda: wait_for_order("retire"),
    "wait_hurry": lambda: wait_for_order("hurry"),
    "wait_file": lambda file: wait_for_file(file),
    "grow": lambda size: globals().update(ballast=bytearray(b"x") * size),
    "leave_child": leave_child,
    "sleep": lambda: time.sleep(600),
}


def wait_for_file(file):
    while not Path(file).exists():
        time.sleep(0.01)


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    take("greeting")
    say("prepared")
    take("assignment")
    return 0


def take(kind):
    received, document = json.loads(lines.readline())
    assert received == kind
    for name, *arguments in document["steps"]:
        STEPS[name](*arguments)


sys.exit(main())
