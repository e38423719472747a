"""Asks a Minecraft server for its status with the library `mcstatus`.

    python status.py --dial 127.0.0.1:PORT --host play.example.com
                     [--protocol 47] [--timeout 10] [--ping] [--legacy]

Prints one line of JSON: `status`, with `--ping` also `ping`, with `--legacy`
also `legacy`. The exit code is 0 when everything that was asked was answered.
"""

import argparse
import json
import socket
import sys

from mcstatus import JavaServer, LegacyServer

GAME_PORT = 25565


def dial_instead(address):
    """Sends every new connection to `address`, as a DNS entry for all names would.

    The library has one address for the socket and for the handshake; only the
    socket is to change.
    """
    original = socket.create_connection

    def create_connection(_address, *args, **kwargs):
        return original(address, *args, **kwargs)

    socket.create_connection = create_connection


def main():
    """Does what the command line says and returns the exit code."""
    parser = argparse.ArgumentParser(description="status of a Minecraft server")
    parser.add_argument("--dial", required=True, help="ip:port to connect to")
    parser.add_argument("--host", required=True, help="the host in the handshake")
    parser.add_argument("--protocol", type=int, default=47, help="the protocol version")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for each wait")
    parser.add_argument("--ping", action="store_true", help="also a ping of its own")
    parser.add_argument("--legacy", action="store_true", help="also the ping of old clients")
    args = parser.parse_args()

    host, port = args.dial.rsplit(":", 1)
    dial_instead((host, int(port)))
    server = JavaServer(args.host, GAME_PORT, timeout=args.timeout)
    answers = {}
    try:
        status = server.status(tries=1, version=args.protocol)
        answers["status"] = {
            "text": status.motd.to_plain(),
            "version": status.version.name,
            "protocol": status.version.protocol,
            "online": status.players.online,
            "max": status.players.max,
        }
        if args.ping:
            # A connection with a handshake and a ping, without a status request.
            answers["ping"] = {"ms": server.ping(tries=1, version=args.protocol)}
        if args.legacy:
            # These clients send no host: whoever answers cannot know which one is meant.
            legacy = LegacyServer(args.host, GAME_PORT, timeout=args.timeout).status(tries=1)
            answers["legacy"] = {
                "text": legacy.motd.to_plain(),
                "version": legacy.version.name,
                "protocol": legacy.version.protocol,
                "online": legacy.players.online,
                "max": legacy.players.max,
            }
    except (OSError, ValueError) as error:
        answers["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(answers))
    return 1 if "error" in answers else 0


if __name__ == "__main__":
    sys.exit(main())
