"""A judge's server that takes its time and no processor: `python -m tests.perf.sides.slow_judge SECONDS`."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

TOP = [{"token": t, "logprob": x, "bytes": list(t.encode())} for t, x in (("m", -0.3), ("M", -1.4), ("x", -9.0))]


async def serve(delay: float) -> None:
    """Answers every request after `delay` seconds with one and the same verdict; prints its port."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": "m", "refusal": None},
        "logprobs": {"content": [{**TOP[0], "top_logprobs": TOP}], "refusal": None},
    }
    usage = {"prompt_tokens": 900, "completion_tokens": 1, "total_tokens": 901}
    head = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(line for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await asyncio.sleep(delay)
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def running_server(delay: float) -> Iterator[str]:
    """Its base URL; a process of its own, ended with the block."""
    command = [sys.executable, "-m", "tests.perf.sides.slow_judge", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
