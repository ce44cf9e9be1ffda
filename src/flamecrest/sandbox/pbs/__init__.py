"""A toy PBS of executables that print what OpenPBS 23.06 prints. Its state is one JSON file.

It has no scheduler: a job starts as soon as nothing holds it. One node runs any number of jobs.
"""
