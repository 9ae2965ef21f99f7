"""What happens, told while it happens: from whoever writes to whoever listens, through Redis.

`channels` is how it lies in Redis, `hub` reads it for all listeners of a process, `listener` is one
of these, `stream` is one that misses nothing, `views` answers a request with it. Decision 0036.
"""
