"""What runs on a channel of a connection: commands, streams, SFTP, the agent."""
