"""The main job: read the standard library with actors, and check the answer."""
