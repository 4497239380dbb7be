"""Everything PostgreSQL: schema, migrations, stores, the group-commit writer, the listener, the embedded server."""

if __name__ == "persistence":  # the folder was found on sys.path under its bare name: every class would exist twice
    raise ImportError("import this package as `callboard.persistence`, not as `persistence`")
