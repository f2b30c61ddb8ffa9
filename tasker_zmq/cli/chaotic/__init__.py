"""The rooms of `tasker-zmq chaos`: load, faults, an independent witness, and the verdict."""
