"""The rooms of `tasker-zmq demo`: what it starts, what it submits, what it finds, what it says."""
