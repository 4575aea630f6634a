"""The rows of benches/asyncio.rs, for asyncio and uvloop: `python rows.py asyncio|uvloop SECONDS ROW..`.

Prints one JSON object per row: how many operations per second. What a row does is the same here and there, hop by hop: the same
batches, the same queue of one place, a real server on the same loop. Needs uvloop for `uvloop` only.
"""

import asyncio
import json
import sys
import threading
import time

BATCH = 10_000
TASKS = 100
KIB = 1024


def nothing():
    pass


async def no_op():
    pass


async def call_soon():
    """BATCH callbacks, of which the last one ends the waiting."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for _ in range(BATCH - 1):
        loop.call_soon(nothing)
    loop.call_soon(done.set_result, None)
    await done
    return BATCH


async def yields():
    for _ in range(BATCH // TASKS):
        await asyncio.sleep(0)


async def yield_now():
    """TASKS tasks that give way to each other."""
    tasks = [asyncio.create_task(yields()) for _ in range(TASKS)]
    for task in tasks:
        await task
    return BATCH


async def spawn_join():
    """Tasks that end at once, TASKS of them at a time."""
    for _ in range(BATCH // TASKS):
        tasks = [asyncio.create_task(no_op()) for _ in range(TASKS)]
        for task in tasks:
            await task
    return BATCH


async def queue():
    """Items through a queue with one place."""
    items = asyncio.Queue(1)

    async def produce():
        for item in range(BATCH):
            await items.put(item)

    producer = asyncio.create_task(produce())
    for item in range(BATCH):
        assert await items.get() == item
    await producer
    return BATCH


async def timer():
    """Timers that are armed and cancelled at once."""
    loop = asyncio.get_running_loop()
    for _ in range(BATCH // TASKS):
        for _ in range(TASKS):
            loop.call_later(60, nothing).cancel()
        await asyncio.sleep(0)
    return BATCH


async def threadsafe_local():
    """As call_soon, by the call that any thread may make, on the loop's own thread."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for _ in range(BATCH - 1):
        loop.call_soon_threadsafe(nothing)
    loop.call_soon_threadsafe(done.set_result, None)
    await done
    return BATCH


async def threadsafe_foreign():
    """The same from another thread, while the loop waits."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def post():
        for _ in range(BATCH - 1):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=post)
    thread.start()
    await done
    thread.join()
    return BATCH


async def echo_of(connections):
    """1 KiB there and back through a stream server on the same loop."""
    rounds = 2_000 // connections
    message = b"x" * KIB

    async def serve(reader, writer):
        try:
            while True:
                writer.write(await reader.readexactly(KIB))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def ask(address):
        reader, writer = await asyncio.open_connection(*address)
        for _ in range(rounds):
            writer.write(message)
            await writer.drain()
            await reader.readexactly(KIB)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await asyncio.gather(*[ask(address) for _ in range(connections)])
    server.close()
    await server.wait_closed()
    return rounds * connections


async def echo():
    return await echo_of(1)


async def echo_20():
    return await echo_of(20)


ROWS = {
    "call_soon": call_soon,
    "yield": yield_now,
    "spawn_join": spawn_join,
    "queue": queue,
    "timer": timer,
    "threadsafe": threadsafe_local,
    "threadsafe_foreign": threadsafe_foreign,
    "echo": echo,
    "echo_20": echo_20,
}


async def measure(row, seconds):
    await row()
    operations, begun = 0, time.perf_counter()
    while True:
        operations += await row()
        took = time.perf_counter() - begun
        if took >= seconds:
            return operations / took


def main():
    contestant, seconds, names = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    if contestant == "uvloop":
        import uvloop

        new_loop = uvloop.new_event_loop
    else:
        new_loop = asyncio.new_event_loop
    for name in names:
        loop = new_loop()
        rate = loop.run_until_complete(measure(ROWS[name], seconds))
        loop.close()
        print(json.dumps({"row": name, "per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
