"""Simulated devices that misbehave as real ones do, and the ledger that the stores are held to."""
