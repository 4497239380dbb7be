"""Schedules: when a job is spawned again and again, as rules; and what is stored of them."""
