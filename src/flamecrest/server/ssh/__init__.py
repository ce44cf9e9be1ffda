"""SSH to login nodes: commands, SFTP and the agent over pooled connections. Only this package imports asyncssh."""
