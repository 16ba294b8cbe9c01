"""Child processes that read hostile input: what they may use, what they may touch, and how they end.

children.py is what the rest of the project calls; starter.py is the process that children are forked from, confine.py
what a child does to itself before it meets its input, by way of landlock.py and seccomp.py.
"""
