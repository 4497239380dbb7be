"""Callboard's supervisors beside another implementation, answer for answer.

``script.py`` says what a script and a trace are: plain JSON. ``driver.run_script(script)`` runs one here;
``python -m tests.supervision.differential < scripts.jsonl > traces.jsonl`` does so with one a line, so that any other
supervisor can be held against this one. ``erlang.py`` and ``oracle.erl`` are the other side: Erlang/OTP's own.
"""
