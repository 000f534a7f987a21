"""Median time of five from the start of `arqon dev` on an empty folder to PONG."""
import json
import os
import socket
import subprocess
import sys
import time

LIMIT_MS = 100
program, folder = sys.argv[1:]
times = []
for n in range(5):
    here = os.path.join(folder, str(n))
    os.makedirs(here)
    ports = os.path.join(here, "ports.json")
    begun = time.monotonic()
    command = [program, "dev", "--data", here + "/data", "--redis", "127.0.0.1:0"]
    command += ["--grpc", "127.0.0.1:0", "--port-file", ports]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with open(ports) as file:
                    host, port = json.load(file)["redis"].rsplit(":", 1)
                break
            except (OSError, ValueError):
                assert child.poll() is None and time.monotonic() - begun < 30, "it did not come up"
                time.sleep(0.001)
        with socket.create_connection((host, int(port)), timeout=10) as peer:
            peer.sendall(b"PING\r\n")
            answer = peer.recv(64)
        times.append((time.monotonic() - begun) * 1000)
        assert answer == b"+PONG\r\n", answer
    finally:
        child.kill()
        child.wait()
times.sort()
print("ms from start to PONG:", ", ".join(f"{t:.0f}" for t in times))
sys.exit(0 if times[2] <= LIMIT_MS else f"the median is above {LIMIT_MS} ms")
