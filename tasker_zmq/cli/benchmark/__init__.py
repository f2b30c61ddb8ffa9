"""What `tasker-zmq bench` does: workloads on systems of their own, what they cost, their floor."""
