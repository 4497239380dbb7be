"""Where a job's function runs: on the event loop or in threads."""
