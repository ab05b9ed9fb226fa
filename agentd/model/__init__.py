"""Sessions, tasks, events and the rules between them: frozen values and pure functions, no IO."""
