"""A burst on a cold function, and deploys under load, on the real thing."""

import asyncio
import threading
import urllib.request

import pytest
from functions import function, package

pytestmark = pytest.mark.local


def url_of(fn):
    config = fn.client.create_function_url_config(FunctionName=fn.name, AuthType="NONE")
    for statement, action, extra in (
        ("url", "lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE"}),
        ("invoke", "lambda:InvokeFunction", {"InvokedViaFunctionUrl": True}),
    ):
        fn.client.add_permission(FunctionName=fn.name, StatementId=statement, Action=action, Principal="*", **extra)
    return config["FunctionUrl"].split("/")[2]


def test_a_burst_of_a_thousand_on_a_cold_function_is_answered_in_full(node):
    code = "def handler(event, context):\n    return event['rawPath']\n"
    address = node.endpoint.split("//")[1].split(":")

    async def ask(host, number):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET /{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].split(b" ", 2)[1], body

    async def burst(host):
        return await asyncio.gather(*(ask(host, number) for number in range(1000)))

    with function(node, code, Timeout=60) as fn:
        answers = asyncio.run(burst(url_of(fn)))
    wrong = [(n, a) for n, a in enumerate(answers) if a != (b"200", f'"/{n}"'.encode())]
    assert wrong == [], wrong[:3]


def test_deploys_switch_without_a_failed_request(node):
    code = "def handler(event, context):\n    return %d\n"
    with function(node, code % 0) as fn:
        host = url_of(fn)
        deployed, done, failures, served = [0], threading.Event(), [], [0] * 4

        def load(index):
            while not done.is_set():
                least = deployed[0]
                try:
                    request = urllib.request.Request(node.endpoint, headers={"Host": host})
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        seen = int(answer.read())
                    if seen < least:
                        failures.append(f"{seen} after {least}")
                    served[index] += 1
                except (OSError, ValueError) as error:
                    failures.append(repr(error))

        threads = [threading.Thread(target=load, args=(index,)) for index in range(len(served))]
        for thread in threads:
            thread.start()
        try:
            for version in range(1, 6):
                before = sum(served)
                fn.client.update_function_code(FunctionName=fn.name, ZipFile=package({"app.py": code % version}))
                deployed[0] = version
                while sum(served) < before + 20 and not failures:
                    done.wait(0.01)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert failures == [] and min(served) > 0
