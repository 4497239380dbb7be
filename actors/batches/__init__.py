"""LLM batches: what is sent to a provider at half the price, and comes back hours later."""
