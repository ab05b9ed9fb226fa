"""One module per agent CLI: how it is called, and what the lines that it prints mean. Pure."""
