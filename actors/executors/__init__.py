"""Where a job's function runs: on the event loop, in threads or in child processes."""
