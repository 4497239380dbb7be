"""Other job queues, measured beside Callboard: docs/bench.md."""
