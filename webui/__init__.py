"""The web viewer in front of agentd daemons: it asks, renders and passes on, and keeps no state of its own."""
