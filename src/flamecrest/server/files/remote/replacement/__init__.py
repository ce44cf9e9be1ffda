"""How an upload takes the place of an existing file: by a rename where that keeps everything, else by writing into it.

docs/users/files/replacing.md has the table of cases.
"""
