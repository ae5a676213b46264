"""moto's server as Secrets Manager, RDS and STS, behind a relay of ours that counts the calls and makes trouble.

moto runs in a process of its own: what it warns of is not ours, and it holds no lock of this interpreter.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from tests.login.front import KEY_ID, REGION, SECRET_KEY
from tests.servers import HOST, ServerFailed, free_port

Trouble = Literal["throttle", "fail", "hang", "refuse"]

_START_TIMEOUT = 60.0
_MOTO = ("setpriv", "--pdeathsig=KILL", sys.executable, "-m", "moto.server")
_ERRORS: dict[Trouble, tuple[int, str, str]] = {
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "fail": (500, "InternalServiceError", "An internal error occurred"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that arrived. stage: of GetSecretValue. secret: as the caller named it."""

    operation: str
    secret: str
    stage: str
    key_id: str
    trouble: Trouble | None


@dataclass(slots=True)
class _Order:
    trouble: Trouble
    operations: tuple[str, ...]
    left: float
    stage: str | None
    is_over: threading.Event = field(default_factory=threading.Event)

    def is_for(self, operation: str, stage: str) -> bool:
        is_meant = (not self.operations or operation in self.operations) and self.stage in (None, stage)
        return self.left > 0 and is_meant


class Service:
    """`with Service() as service:` starts it, and ends it by its process id. `endpoint_url` is the relay's.

    calls: what arrived at the relay. What `client()` and the methods here ask for goes past it.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoint_url = f"http://{HOST}:{self.port}"
        self.calls: list[Call] = []
        self._moto_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: list[_Order] = []
        self._lock = threading.Lock()
        # moto has threads and no locks: while UpdateSecretVersionStage moves a label, no version has it.
        self._one_at_a_time = threading.Lock()
        self._clients: list[Any] = []
        self._manager: Any = None
        self._relay: _Relay | None = None
        self._files = ExitStack()

    def __enter__(self) -> Service:
        try:
            self._start_moto()
            self._listen()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the relay and moto. Idempotent."""
        self._hang_up()
        while self._clients:
            self._clients.pop().close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._files.close()

    # What a test asks for

    def client(self, name: str, *, is_counted: bool = False) -> Any:
        """A boto3 client of a service, past the relay unless `is_counted`. It is closed with the service."""
        port = self.port if is_counted else self._moto_port
        session = boto3.Session(KEY_ID, SECRET_KEY, region_name=REGION)
        settings = Config(retries={"total_max_attempts": 1}, proxies={})
        client = session.client(name, endpoint_url=f"http://{HOST}:{port}", config=settings)
        self._clients.append(client)
        return client

    def role_session(self, role: str, seconds: int = 900) -> boto3.Session:
        """As an application has it that assumes a role itself, and renews the role's key before it ends."""
        sts = self.client("sts")

        def assume() -> dict[str, str]:
            found = sts.assume_role(RoleArn=role, RoleSessionName="shop", DurationSeconds=seconds)["Credentials"]
            return {
                "access_key": found["AccessKeyId"],
                "secret_key": found["SecretAccessKey"],
                "token": found["SessionToken"],
                "expiry_time": found["Expiration"].isoformat(),
            }

        session = botocore.session.Session()
        session._credentials = RefreshableCredentials.create_from_metadata(assume(), assume, "assume-role")
        return boto3.Session(botocore_session=session)

    def create(self, name: str, **fields: Any) -> str:
        """A secret with this JSON; returns its ARN. One of that name that was there is forgotten."""
        manager = self.manager
        with suppress(manager.exceptions.ResourceNotFoundException):
            manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        return str(manager.create_secret(Name=name, SecretString=json.dumps(fields))["ARN"])

    def put(self, secret: str, *stages: str, **fields: Any) -> None:
        """A new version with this JSON and these stages."""
        self.manager.put_secret_value(SecretId=secret, SecretString=json.dumps(fields), VersionStages=list(stages))

    def read(self, secret: str, stage: str = "AWSCURRENT") -> dict[str, Any]:
        """The JSON of a version of a secret."""
        answer = self.manager.get_secret_value(SecretId=secret, VersionStage=stage)
        return dict(json.loads(answer["SecretString"]))

    @property
    def manager(self) -> Any:
        """A client of Secrets Manager, past the relay."""
        if self._manager is None:
            self._manager = self.client("secretsmanager")
        return self._manager

    def count(self, operation: str = "GetSecretValue", *, secret: str | None = None, stage: str | None = None) -> int:
        """How many calls arrived, those in trouble too; the arguments narrow it down."""
        return sum(
            call.operation == operation and secret in (None, call.secret) and stage in (None, call.stage)
            for call in list(self.calls)
        )

    @contextmanager
    def trouble(
        self, kind: Trouble, *operations: str, times: float = float("inf"), stage: str | None = None
    ) -> Iterator[None]:
        """Make trouble for these operations, or for all, until the block ends or it was so many times.

        stage: of GetSecretValue, where only one is meant.
        throttle: ThrottlingException. fail: 500. hang: no answer until the block ends, then the connection ends.
        refuse: nobody listens on the port; this is for all operations.
        """
        order = _Order(kind, operations, times, stage)
        if kind == "refuse":
            self._hang_up()
        with self._lock:
            self._orders.append(order)
        try:
            yield
        finally:
            with self._lock:
                self._orders.remove(order)
            order.is_over.set()
            if kind == "refuse":
                self._listen()

    # The relay

    def _listen(self) -> None:
        self._relay = _Relay(self)

    def _hang_up(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            with self._lock:
                for order in self._orders:
                    order.is_over.set()
            relay.stop()

    def decide(self, operation: str, body: dict[str, Any], key_id: str) -> _Order | None:
        """Note a call; returns the trouble it is in."""
        stage = body.get("VersionStage", "AWSCURRENT") if operation == "GetSecretValue" else ""
        with self._lock:
            order = next((each for each in self._orders if each.is_for(operation, stage)), None)
            if order is not None:
                order.left -= 1
            trouble = order.trouble if order is not None else None
            self.calls.append(Call(operation, str(body.get("SecretId", "")), stage, key_id, trouble))
        return order

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Have moto answer; one request after the other."""
        connection = http.client.HTTPConnection(HOST, self._moto_port, timeout=30)
        with self._one_at_a_time:
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                return answer.status, dict(answer.getheaders()), answer.read()
            finally:
                connection.close()

    # The process

    def _start_moto(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))}
        log_file = Path(self._files.enter_context(tempfile.TemporaryDirectory()), "moto.log")
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*_MOTO, "--host", HOST, "--port", str(self._moto_port)],
                env={**environment, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_KEY},
                cwd=log_file.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"http://{HOST}:{self._moto_port}/moto-api/", timeout=5).close()
                return
            except OSError as error:
                reason = error
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
            if self._process.poll() is not None or time.monotonic() > deadline:
                text = log_file.read_text(errors="replace")
                raise ServerFailed(f"moto's server does not answer: {reason}\n{text[-4000:]}")


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of another service, which answers as the handler does: one that is not AWS', or lies."""
    with HTTPServer((HOST, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Relay(ThreadingHTTPServer):
    """Listens for a Service; a thread for each connection."""

    def __init__(self, service: Service) -> None:
        super().__init__((HOST, service.port), _Handler)
        self.service = service
        self._lock = threading.Lock()
        self._open: dict[threading.Thread, Any] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="aws-relay", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the threads."""
        self.shutdown()
        self._thread.join()
        with self._lock:
            left = dict(self._open)
            for connection in left.values():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        def run() -> None:
            try:
                self.finish_request(request, client_address)
            except OSError:  # the client left
                pass
            finally:
                with self._lock:
                    del self._open[thread]
                    self.shutdown_request(request)

        thread = threading.Thread(target=run, name="aws-relay-connection", daemon=True)
        with self._lock:
            self._open[thread] = request
        thread.start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Relay

    def log_message(self, format: str, *args: Any) -> None:
        """The calls are noted elsewhere."""

    def do_POST(self) -> None:
        service = self.server.service
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = self.headers.get("X-Amz-Target")
        if target is not None:
            said = json.loads(body)
        else:  # RDS and STS speak the query protocol
            said = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        operation = target.rpartition(".")[2] if target is not None else said.get("Action", "")
        key_id = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        order = service.decide(operation, said, key_id)
        if order is not None and order.trouble == "hang":
            order.is_over.wait()
            self.close_connection = True
            return
        if order is not None:
            status, code, message = _ERRORS[order.trouble]
            text = json.dumps({"__type": code, "message": message}).encode()
            self._answer(status, {"Content-Type": "application/x-amz-json-1.1"}, text)
            return
        if operation == "GetSecretValue" and not said.keys() & {"VersionId", "VersionStage"}:
            # moto then gives the version that was current before UpdateSecretVersionStage first moved the label.
            body = json.dumps({**said, "VersionStage": "AWSCURRENT"}).encode()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _PER_HOP}
        self._answer(*service.forward("POST", self.path, headers, body))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _PER_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_PER_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "expect", "server", "date"}
