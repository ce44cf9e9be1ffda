"""A user of AiiDA's FirecREST plugin: programs for the interpreter of .venv-aiida, which has no Flamecrest in it."""
