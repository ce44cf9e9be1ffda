"""Read files over SFTP: downloads, parts of text files, files that grow."""
