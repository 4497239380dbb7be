"""One suite for every job store: what ``JobStore`` promises, on PostgreSQL and in memory."""
