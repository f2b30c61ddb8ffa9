"""The composition root: threads, sockets and database put together; the only maker of time."""
