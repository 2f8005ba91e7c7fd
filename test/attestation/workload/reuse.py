# Connects, ends, and has another program take the number that is free then: `reuse.py SOCKET TRIES`, alone in its pid namespace.
import os
import random
import socket
import sys
import time

path, tries = sys.argv[1], int(sys.argv[2])
taken = 0
for number in range(tries):
    child = os.fork()
    if child == 0:
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        # The accepted connection outlives its process: somebody else holds it.
        holder = os.fork()
        if holder == 0:
            time.sleep(0.02)
        os._exit(0)
    if random.random() < 0.5:
        time.sleep(random.random() * 0.002)
    os.waitpid(child, 0)
    with open('/proc/sys/kernel/ns_last_pid', 'w') as last:
        last.write(str(child - 1))
    taken += os.posix_spawn('/bin/sleep', ['sleep', '0.01'], {}) == child
    # What has ended is let go, so that numbers stay few.
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass
print(taken, flush=True)
