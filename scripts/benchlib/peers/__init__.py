"""agentd beside other queues: the same work, by turns, each with the settings its documents recommend for this."""
