"""The HTTP API: decodes, asks the service, encodes. No decisions."""
