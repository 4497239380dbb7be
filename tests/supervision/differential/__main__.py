"""Run scripts (script.py), one JSON object a line, and write their traces: ``< scripts.jsonl > traces.jsonl``."""

import json
import logging
import sys

from .driver import run_script


def main() -> None:
    """Answer each line of standard input with a line of standard output."""
    logging.disable(logging.CRITICAL)  # children crash by the dozen
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(run_script(json.loads(line))), flush=True)


main()
