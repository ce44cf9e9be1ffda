"""Programs for compute nodes: modules that are joined to one text, which a job script carries. Standard library only.

They must run with Python 3.6, the system's Python of older clusters. `assembly` removes annotations, which may be
newer.
"""
