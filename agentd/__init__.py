"""agentd: the daemon that owns long-running agent work and cannot lie about it."""

__version__ = "0.1.0"
