"""Measures agentd against the limits of the machine it runs on, in ratios, within one run."""
