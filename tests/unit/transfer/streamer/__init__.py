"""Streamers: their programs on a node of this machine, with clients of firecrest-streamer and our own."""
