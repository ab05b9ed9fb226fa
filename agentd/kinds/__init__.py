"""One module per kind of task: spec to launch, exit to outcome. Pure."""
