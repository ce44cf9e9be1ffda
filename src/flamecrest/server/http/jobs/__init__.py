"""Routes of jobs beyond those of FirecREST."""
