"""`flamecrest stream`: sends a file to a streamer's job, or receives one. Needs no server packages."""
