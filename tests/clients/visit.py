"""Visits the site through a proxy with one of Python's clients, and fails where anything is not as it should be.

usage: visit.py CLIENT PROXY PLAIN TLS SIX CERTIFICATES
"""

import asyncio
import ssl
import sys

CLIENT, PROXY, PLAIN, TLS, SIX, CERTIFICATES = sys.argv[1:]
BODY = bytes(at >> 16 for at in range(300_000))
UPLOAD = bytes(range(256)) * 1000


def wants(what, got):
    if not got:
        sys.exit(f"{CLIENT} by {PROXY}: {what}")


def refused(status, error):
    """A wrong login ends here: the word that the test looks for, whichever way the client puts it."""
    if status == 407 or any(word in str(error) for word in ("407", "auth", "Auth", "password")):
        sys.exit(f"refused: {status or error}")


def with_requests():
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": PROXY, "https": PROXY}
        session.verify = CERTIFICATES
        try:
            first = session.get(f"{PLAIN}/bytes/300000", timeout=20)
        except requests.exceptions.ConnectionError as error:
            refused(None, error)
            raise
        refused(first.status_code, None)
        wants("http", first.content == BODY)
        for origin in (PLAIN, TLS):
            wants("upload", session.post(f"{origin}/echo", data=UPLOAD, timeout=20).content == UPLOAD)
            parts = (UPLOAD[at : at + 10_000] for at in range(0, len(UPLOAD), 10_000))
            wants("chunked upload", session.post(f"{origin}/echo", data=parts, timeout=20).content == UPLOAD)
            wants("chunks", session.get(f"{origin}/chunked/300000", timeout=20).content == BODY)
            wants("HEAD", session.head(f"{origin}/bytes/7", timeout=20).headers["content-length"] == "7")
            wants("204", session.get(f"{origin}/status/204", timeout=20).status_code == 204)
        wants("https", session.get(f"{TLS}/bytes/300000", timeout=20).content == BODY)
        if not PROXY.startswith("socks4"):
            wants("IPv6", session.get(f"{SIX}/bytes/300000", timeout=20).content == BODY)


def with_httpx():
    import httpx

    async def visit():
        trust = ssl.create_default_context(cafile=CERTIFICATES)
        proxy = httpx.Proxy(PROXY, ssl_context=trust if PROXY.startswith("https") else None)
        async with httpx.AsyncClient(proxy=proxy, verify=trust, trust_env=False, timeout=20) as session:
            try:
                first = await session.get(f"{PLAIN}/bytes/300000")
            except httpx.ProxyError as error:
                refused(None, error)
                raise
            refused(first.status_code, None)
            wants("http", first.content == BODY)
            both = await asyncio.gather(*(session.get(f"{o}/bytes/300000") for o in (PLAIN, TLS) * 4))
            wants("several at once", all(answer.content == BODY for answer in both))
            for origin in (PLAIN, TLS):
                wants("upload", (await session.post(f"{origin}/echo", content=UPLOAD)).content == UPLOAD)
                wants("chunks", (await session.get(f"{origin}/chunked/300000")).content == BODY)
                async with session.stream("GET", f"{origin}/bytes/100000000") as left_early:
                    wants("a download left early", left_early.status_code == 200)
            # Of an IPv6 literal in absolute-form httpx loses the brackets.
            if PROXY.startswith("socks"):
                wants("IPv6", (await session.get(f"{SIX}/bytes/300000")).content == BODY)

    asyncio.run(visit())


def with_aiohttp(socks):
    import aiohttp
    import aiohttp_socks

    async def visit():
        trust = ssl.create_default_context(cafile=CERTIFICATES)
        connector = aiohttp_socks.ProxyConnector.from_url(PROXY, ssl=trust) if socks else None
        if not socks:
            connector = aiohttp.TCPConnector(ssl=trust)
        proxy = {} if socks else {"proxy": PROXY}
        async with aiohttp.ClientSession(connector=connector) as session:

            async def get(url):
                async with session.get(url, **proxy) as answer:
                    refused(answer.status, None)
                    return await answer.read()

            try:
                wants("http", await get(f"{PLAIN}/bytes/300000") == BODY)
            except (aiohttp.ClientError, aiohttp_socks.ProxyError) as error:
                refused(None, error)
                raise
            both = await asyncio.gather(*(get(f"{origin}/bytes/300000") for origin in (PLAIN, TLS) * 4))
            wants("several at once", all(body == BODY for body in both))
            for origin in (PLAIN, TLS):
                async with session.post(f"{origin}/echo", data=UPLOAD, expect100=True, **proxy) as answer:
                    wants("upload that waits for 100", await answer.read() == UPLOAD)
                wants("chunks", await get(f"{origin}/chunked/300000") == BODY)
                async with session.ws_connect(f"{origin}/ws", **proxy) as socket:
                    for size in (1, 200, 100_000):
                        await socket.send_bytes(b"x" * size)
                        wants("websocket", (await socket.receive_bytes(timeout=20)) == b"x" * size)
            if not PROXY.startswith("socks4"):
                wants("IPv6", await get(f"{SIX}/bytes/300000") == BODY)

    asyncio.run(visit())


{
    "requests": with_requests,
    "httpx": with_httpx,
    "aiohttp": lambda: with_aiohttp(socks=False),
    "aiohttp-socks": lambda: with_aiohttp(socks=True),
}[CLIENT]()
print("as it should be")
