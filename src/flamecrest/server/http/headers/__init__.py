"""HTTP header fields as their RFCs define them: parsed and written without I/O; no module here knows a route."""
