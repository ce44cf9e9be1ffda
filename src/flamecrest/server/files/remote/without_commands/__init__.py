"""What commands do elsewhere, done by SFTP for logins that run none."""
