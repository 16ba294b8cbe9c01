"""Visits: boxes of consecutive windows of one camera become objects that come, stay and go.

`records.py` says what is stored, `match.py` which box continues which object, `track.py` follows a window from the
state that the window before it left, `rows.py` makes the tables. Nothing here knows a clock or a process: the same
windows in the same order give the same visits.

roboflow's `trackers` is not used: it needs opencv-python, which overwrites the headless build, and its ByteTrack wants
boxes of neighbouring frames to overlap, which those of walkers do not below 5 frames/s.
"""
