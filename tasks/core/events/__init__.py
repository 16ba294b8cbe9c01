"""Events of object stores: what a notification says, where the object is, how a queue is spoken to."""
