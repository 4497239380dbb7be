"""Callbacks: an HTTP request that tells somebody outside how a job has ended."""
