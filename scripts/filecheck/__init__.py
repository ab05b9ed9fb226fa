"""Proves the promises from the files alone. Nothing here imports agentd: it is written from docs/storage.md."""
