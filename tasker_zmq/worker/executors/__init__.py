"""Where handlers run: threads, processes, or one asyncio loop. None of them touches a socket."""
