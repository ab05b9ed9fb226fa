"""Logs of tasks: windows of lines, their colours, and search."""
