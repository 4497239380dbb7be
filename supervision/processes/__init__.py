"""Actors that are processes of the operating system, supervised like any other actor."""
