"""Alerts: rules over visits, speech and tags of a camera's windows.

`rules.py` is the file that people write, `clock.py` its hours, `place.py` its zones and lines, `evaluate.py` what
fires, `message.py` what is said of it. Nothing here knows the time at which it runs: the same windows, the same alerts.
"""
