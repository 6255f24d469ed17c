"""A mail server for tests: Debian's aiosmtpd, with faults on request.

Usage: smtp_server.py MAILDIR [--port N] [--cert PEM --key PEM] [--tls starttls|wrapped] [--login USER PASSWORD]

Says "ready PORT" once it listens, then a line for each thing that happens:
    line                       somebody connected
    mail RECIPIENT MESSAGE-ID  a mail was taken and is in the Maildir

What it does with a recipient depends on the part before the @:
    refused   550 to RCPT, always
    later     451 to RCPT, the first two times
    drop      takes the first mail, keeps it, and hangs up instead of saying so
    spam      554 to the mail's text, always
Ends when its standard input is closed.
"""

import argparse
import asyncio
import collections
import email
import logging
import mailbox
import ssl
import sys
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# about a server that faces the world; this one does not
logging.disable()
warnings.simplefilter("ignore")

parser = argparse.ArgumentParser()
parser.add_argument("maildir")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--tls", choices=["starttls", "wrapped"])
parser.add_argument("--login", nargs=2, metavar=("USER", "PASSWORD"))
options = parser.parse_args()


def say(text):
    print(text, flush=True)


class Handler:
    def __init__(self):
        self.asked = collections.Counter()
        self.box = mailbox.Maildir(options.maildir)

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        name = address.split("@")[0]
        self.asked[name] += 1
        if name == "refused":
            return "550 5.1.1 No such \x1b[31muser here"
        if name == "later" and self.asked[name] <= 2:
            return "451 4.7.1 Greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        name = envelope.rcpt_tos[0].split("@")[0]
        if name == "spam":
            return "554 5.7.1 We do not like this mail"
        self.box.add(envelope.content)
        message_id = email.message_from_bytes(envelope.content)["Message-ID"]
        say(f"mail {envelope.rcpt_tos[0]} {message_id}")
        self.asked["mail " + name] += 1
        if name == "drop" and self.asked["mail " + name] == 1:
            server.transport.abort()
            await asyncio.sleep(3600)
        return "250 OK"


def knows(server, session, envelope, mechanism, data):
    user, password = options.login
    good = data.login == user.encode() and data.password == password.encode()
    # handled: aiosmtpd says 535 by itself
    return AuthResult(success=good, handled=False)


async def serve():
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert, options.key)
    starttls = context if options.tls == "starttls" else None
    wrapped = context if options.tls == "wrapped" else None
    handler = Handler()

    def line():
        say("line")
        return SMTP(
            handler,
            hostname="localhost",
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=knows if options.login else None,
            auth_required=options.login is not None,
            # a wrapped line is protected, but aiosmtpd does not know it
            auth_require_tls=wrapped is None,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(line, "127.0.0.1", options.port, ssl=wrapped)
    say(f"ready {server.sockets[0].getsockname()[1]}")
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
