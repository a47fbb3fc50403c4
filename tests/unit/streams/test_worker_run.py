"""A worker's process ends when the worker has stopped, whatever else still runs in it."""

import subprocess
import sys
import time

PROGRAM = """
import asyncio, time
from streams.cli.run import exit_code_of, leave
from streams.settings import load
from streams.worker import run

async def stubborn():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("not yet", flush=True)

async def stopped(settings, clock):
    asyncio.create_task(stubborn())
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    await asyncio.sleep(0.1)
    return 0

run.run_worker = stopped

def main():
    raise SystemExit(run.run_process(load()))

leave(exit_code_of(main))
"""


def test_neither_a_task_that_goes_on_nor_a_thread_that_hangs_keeps_it() -> None:
    started_s = time.monotonic()
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert "not yet" in run.stdout and "1 tasks did not end" in run.stderr, run.stderr
    assert time.monotonic() - started_s < 45
