"""The only reader and writer of the data directory."""
