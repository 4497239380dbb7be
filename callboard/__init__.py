"""Callboard: an actor-model runtime for background jobs, on PostgreSQL."""
