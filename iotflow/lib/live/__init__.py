"""What happens, told while it happens: from whoever writes to whoever listens, through Redis.

`channels` is how it lies in Redis, `hub` reads it for all listeners of a process, `stream` is one
listener, `views` answers a request with it. Decision 0036.
"""
