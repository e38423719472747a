"""Players and a server of the library `quarry` meet through the proxy.

    python quarry_play.py

Prints one line of JSON with the address of a server that authenticates nobody,
and of a session service. Then it reads one line, `{"proxy": "ip:port", "hosts":
{"offline": HOST, "client_only": HOST}}`, lets a player of each version in on each
host, and prints what each of them saw, one line each.
"""

import json
import sys
import uuid

from quarry.net import auth
from quarry.net.client import ClientFactory, ClientProtocol
from quarry.net.server import ServerFactory, ServerProtocol
from quarry.types.uuid import UUID
from twisted.internet import defer, reactor, threads
from twisted.internet.address import IPv4Address
from twisted.web.resource import Resource
from twisted.web.server import Site

# The versions of the library that differ in their login.
VERSIONS = [4, 5, 47, 340, 404, 578, 736, 754, 758, 759, 760]
# How long one player may take, in seconds.
PATIENCE = 60
CHANNEL = "infrarust:echo"


def emit(value):
    """Prints one line of JSON."""
    print(json.dumps(value), flush=True)


def plugin_message(protocol, data):
    """The fields of a plugin message."""
    channel = protocol.buff_type.pack_string(CHANNEL)
    if protocol.protocol_version <= 5:
        return channel + protocol.buff_type.pack("h", len(data)) + data
    return channel + data


def data_of(protocol, buff):
    """The data of a plugin message on our channel, or None."""
    is_ours = buff.unpack_string() == CHANNEL
    if protocol.protocol_version <= 5:
        buff.unpack("h")
    data = buff.read()
    return data if is_ours else None


class EchoServer(ServerProtocol):
    """Sends plugin messages back, and kicks after the second."""

    messages = 0

    def player_joined(self):
        ServerProtocol.player_joined(self)
        # Neither the proxy nor the client of the library reads its fields.
        self.send_packet("join_game", bytes(16))

    def packet_plugin_message(self, buff):
        data = data_of(self, buff)
        if data is None:
            return
        self.messages += 1
        self.send_packet("plugin_message", plugin_message(self, data))
        if self.messages == 2:
            self.close("enough")


class Player(ClientProtocol):
    """Sends a small and a large message, and keeps what comes."""

    def connection_made(self):
        factory = self.factory
        address = IPv4Address("TCP", factory.host, 25565)
        self.transport.connector.getDestination = lambda: address
        return ClientProtocol.connection_made(self)

    def packet_login_success(self, buff):
        buff.save()
        if self.protocol_version >= 735:
            self.factory.seen["uuid"] = buff.unpack_uuid().to_hex(False)
        else:
            self.factory.seen["uuid"] = buff.unpack_string().replace("-", "")
        self.factory.seen["name"] = buff.unpack_string()
        buff.restore()
        ClientProtocol.packet_login_success(self, buff)

    def packet_join_game(self, buff):
        buff.discard()
        self.factory.seen["encrypted"] = self.cipher.encryptor is not None
        self.factory.seen["threshold"] = self.compression_threshold
        for data in self.factory.data:
            self.send_packet("plugin_message", plugin_message(self, data))

    def packet_plugin_message(self, buff):
        data = data_of(self, buff)
        if data is not None:
            self.factory.seen["echoed"].append(data == self.factory.data[len(self.factory.seen["echoed"])])

    def packet_disconnect(self, buff):
        self.factory.seen["kick"] = buff.unpack_chat().to_string()
        self.close()

    packet_login_disconnect = packet_disconnect

    def connection_lost(self, reason=None):
        ClientProtocol.connection_lost(self, reason)
        if not self.factory.over.called:
            self.factory.over.callback(None)


class Players(ClientFactory):
    """One player of one version on one host."""

    protocol = Player

    def __init__(self, profile, version, host):
        ClientFactory.__init__(self, profile)
        self.force_protocol_version = version
        self.host = host
        self.over = defer.Deferred()
        self.data = [b"small", bytes(range(251)) * 100]
        self.seen = {"version": version, "host": host, "echoed": []}


class Sessions(Resource):
    """A session service: whoever has joined is known by its hash."""

    isLeaf = True

    def __init__(self):
        Resource.__init__(self)
        self.joined = {}

    def render_POST(self, request):
        body = json.loads(request.content.read())
        self.joined[body["serverId"]] = (body["selectedProfile"], body["accessToken"])
        request.setResponseCode(204)
        return b""

    def render_GET(self, request):
        name = request.args[b"username"][0].decode()
        known = self.joined.get(request.args[b"serverId"][0].decode())
        if known is None or known[1] != name:
            request.setResponseCode(204)
            return b""
        return json.dumps({"id": known[0], "name": name, "properties": []}).encode()


def identity(name):
    """The profile id that the session service gives."""
    return UUID(bytes=uuid.uuid5(uuid.NAMESPACE_DNS, name).bytes)


@defer.inlineCallbacks
def play(order):
    """Lets one player after the other in."""
    address, port = order["proxy"].rsplit(":", 1)
    for mode, host in order["hosts"].items():
        for version in VERSIONS:
            name = f"Quarry{version}"
            if mode == "client_only":
                # The service takes the name as the token.
                profile = auth.Profile("client", name, name, identity(name))
            else:
                profile = auth.OfflineProfile(name)
            player = Players(profile, version, host)
            player.connect(address, int(port))
            player.over.addTimeout(PATIENCE, reactor)
            try:
                yield player.over
            except defer.TimeoutError:
                player.seen["timeout"] = True
            player.seen["mode"] = mode
            emit(player.seen)
    reactor.stop()


def main():
    """Starts everything."""
    server = ServerFactory()
    server.protocol = EchoServer
    server.online_mode = False
    listening = reactor.listenTCP(0, server, interface="127.0.0.1")
    service = reactor.listenTCP(0, Site(Sessions()), interface="127.0.0.1")
    url = f"http://127.0.0.1:{service.getHost().port}"
    auth.SESSION_SERVER = f"{url}/session/minecraft/".encode()
    emit({"backend": f"127.0.0.1:{listening.getHost().port}", "session": url})
    order = threads.deferToThread(sys.stdin.readline)
    order.addCallback(lambda line: play(json.loads(line)))
    order.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()


if __name__ == "__main__":
    main()
