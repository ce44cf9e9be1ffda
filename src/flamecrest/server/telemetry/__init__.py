"""Logging of the gateway: the trace of a request, the format of log lines, redaction of secrets."""
