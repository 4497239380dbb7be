"""Job rules (pure), job values and the job actor."""
