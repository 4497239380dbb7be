"""Programs to start from. Each says how it is run."""
