"""`flamecrest serve --workers N`: several processes that serve on one listening socket."""
