"""Cameras in: supervised for ever, their windows sent to a store."""
