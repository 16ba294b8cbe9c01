"""Messages of people, answered: `answers.py` does what is asked, `desk.py` in its own time, `web.py` takes calls."""
