"""An S3 server for tests: moto, behind a door that lets only good requests in.

moto itself takes any key. This looks at what it leaves out: the signature of an
address that was signed (SigV4, in the query), and Content-MD5. It prints its
port and serves until its standard input ends.

    live_server.py ACCESS_KEY SECRET
"""

import base64
import hashlib
import hmac
import io
import os
import sys
import threading
from urllib.parse import quote, unquote

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class Handler(MotoRequestHandler):
    def log_request(self, *_):
        pass


def refused(start, status, code):
    start(status, [("content-type", "application/xml")])
    # what a server says beside the code is not to be shown
    return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>canary</Message></Error>".encode()]


def digest(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(environ, query, secret):
    """SigV4 for the request, as the server would have made it."""
    scope = query["X-Amz-Credential"].split("/", 1)[1]
    date, region, service, _ = scope.split("/")
    signed = query["X-Amz-SignedHeaders"].split(";")

    def header(name):
        key = name.upper().replace("-", "_")
        return environ.get("HTTP_" + key) or environ.get(key, "")

    escaped = sorted((quote(k, "-_.~"), quote(v, "-_.~")) for k, v in query.items() if k != "X-Amz-Signature")
    canonical = "\n".join(
        [environ["REQUEST_METHOD"], environ["RAW_URI"].split("?")[0], "&".join(f"{k}={v}" for k, v in escaped)]
        + [f"{name}:{header(name).strip()}" for name in signed]
        + ["", ";".join(signed), "UNSIGNED-PAYLOAD"]
    )
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", query["X-Amz-Date"], scope, hashed])
    key = digest(("AWS4" + secret).encode(), date)
    for part in (region, service, "aws4_request"):
        key = digest(key, part)
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


class Door:
    def __init__(self, inside, access_key, secret):
        self.inside, self.access_key, self.secret = inside, access_key, secret

    def __call__(self, environ, start):
        pairs = [pair.partition("=") for pair in environ["QUERY_STRING"].split("&") if pair]
        query = {unquote(k): unquote(v) for k, _, v in pairs}
        if query.get("X-Amz-Credential", "").split("/")[0] != self.access_key:
            return refused(start, "403 Forbidden", "InvalidAccessKeyId")
        if query.get("X-Amz-Signature") != signature(environ, query, self.secret):
            return refused(start, "403 Forbidden", "SignatureDoesNotMatch")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        promised = environ.get("HTTP_CONTENT_MD5")
        if "PUT" == environ["REQUEST_METHOD"] and len(environ["PATH_INFO"].strip("/").split("/")) > 1:
            if promised != base64.b64encode(hashlib.md5(body).digest()).decode():
                return refused(start, "400 Bad Request", "BadDigest")
        return self.inside(environ, start)


def main():
    access_key, secret = sys.argv[1:]
    inside = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, Door(inside, access_key, secret), threaded=True, request_handler=Handler)
    print(server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


main()
