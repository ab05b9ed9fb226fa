"""The local engine: supervised worker processes on this machine."""
