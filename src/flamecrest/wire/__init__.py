"""The FirecREST v2 wire models: one definition, used by the server and by clients."""
