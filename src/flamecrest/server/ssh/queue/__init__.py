"""The requests that wait for a channel of a cluster: who may wait, and how long that will take."""
