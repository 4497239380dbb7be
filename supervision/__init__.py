"""Supervisor trees, metrics and health: who restarts what, and how an operator sees it. No SQL in here."""

if __name__ == "supervision":  # the folder was found on sys.path under its bare name: every class would exist twice
    raise ImportError("import this package as `callboard.supervision`, not as `supervision`")
