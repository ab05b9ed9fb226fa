"""Where launches run."""
