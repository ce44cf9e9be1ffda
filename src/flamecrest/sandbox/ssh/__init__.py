"""An SSH server without root: accounts, commands, SFTP, and faults on demand."""
