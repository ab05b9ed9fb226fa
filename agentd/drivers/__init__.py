"""Programs that run as the first process of a task, in its worker, and drive what cannot be run as it stands."""
