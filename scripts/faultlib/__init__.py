"""Layers of faults: each tries to break a promise in one way, and counts what it tried."""
