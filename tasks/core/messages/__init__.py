"""Messages of people: what they ask, whose they are, and which rooms they speak of.

`ask.py` reads a text, `book.py` the file of rooms and senders, `twilio.py` speaks as Twilio does, `cleaning.py` says
what a room has seen since it was cleaned.
"""
