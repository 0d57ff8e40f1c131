import time

_real = time.time_ns
W = 32_000_000
time.time_ns = lambda: _real() // W * W
