"""The soak: a daemon is kept busy while everything around it is killed, and its files are proved at the end."""
