"""The kernel: mailboxes, dispatchers, refs, job rules and job actors, executors.

No SQL and no HTTP server in here. Import names from the modules that define them; what users need is re-exported
by ``callboard``.
"""

if __name__ == "actors":  # the folder was found on sys.path under its bare name: every class would exist twice
    raise ImportError("import this package as `callboard.actors`, not as `actors`")
