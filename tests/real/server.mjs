// A Minecraft server made of the library `minecraft-protocol`. It lets players
// into the world, sends their payloads back, and tells what it saw.
//
//   node server.mjs --version 1.8.9 [--online --session-url URL] [--port 0]
//                   [--kick TEXT] [--burst BYTES]

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { createRequire } from "node:module";
import process from "node:process";
import { parseArgs } from "node:util";
import mc from "minecraft-protocol";
import minecraftData from "minecraft-data";
import nbt from "prismarine-nbt";
import { BURST_CHANNEL, CROWD_CHANNEL, ECHO_CHANNEL, emit, isMain, PATIENCE_MS, pieces, stdinEnd } from "./common.mjs";

/** How often a player in the play state is sent a keep alive, in milliseconds. */
const KEEP_ALIVE_MS = 1000;

/** The text of a server's status: it names the host that the handshake carried. */
export function motdOf(version, online, host) {
  return `real backend ${version} ${online ? "online" : "offline"} seen as ${host}`;
}

/**
 * Makes every server of this process ask `url` whether a player joined. The
 * library has such an option for clients alone; its servers take the address
 * from the package `yggdrasil`, so that is where it is changed.
 */
export function pointServersAt(url) {
  const yggdrasil = createRequire(import.meta.url)("yggdrasil");
  const original = yggdrasil.server;
  yggdrasil.server = (options) => original({ ...options, host: url });
}

/** The first packet of the play state, which takes a client into a world. */
function loginPacket(data, client) {
  // Fields that a version does not have are left out by the serializer.
  const before116 = {
    gameMode: 0,
    dimension: 0,
    difficulty: 1,
    levelType: "default",
    reducedDebugInfo: false,
    viewDistance: 10,
    hashedSeed: [0, 0],
    enableRespawnScreen: true,
  };
  return { ...(data.loginPacket ?? before116), maxPlayers: 20, entityId: client.id };
}

/**
 * Ends the connection of a player as a plan says: with a text, or without one.
 * The library writes texts in login and play, and this adds configuration.
 */
function sendAway(client, { text, reset = false }) {
  if (text === undefined) return reset ? client.socket.resetAndDestroy() : client.socket.end();
  if (client.state === mc.states.CONFIGURATION) {
    const isNbt = client.supportFeature("chatPacketsUseNbtComponents");
    const reason = isNbt ? nbt.comp({ text: nbt.string(text) }) : JSON.stringify({ text });
    client.write("disconnect", { reason });
  }
  client.end(text);
}

/**
 * Makes the server announce `threshold` where the library always takes 256; a
 * negative one announces nothing.
 */
function compressFrom(client, threshold) {
  const { write } = client;
  client.write = (name, params) => {
    if (name !== "compress") return write.call(client, name, params);
    if (threshold < 0) return;
    write.call(client, name, { threshold });
    client.setCompressionThreshold(threshold);
  };
  // The library sets its own value after that packet.
  Object.defineProperty(client, "compressionThreshold", { get: () => threshold, set() {} });
}

/** The question for a player's identity, and the layout that it asks for. */
const VELOCITY_CHANNEL = "velocity:player_info";
const VELOCITY_VERSION = 1;

/**
 * Who the player is by the answer of a proxy that knows `secret`: the code is
 * over version, address, UUID, name and properties, in that order.
 */
function identityOf(answer, secret) {
  const code = answer.subarray(0, 32);
  const payload = answer.subarray(32);
  const own = createHmac("sha256", secret).update(payload).digest();
  if (code.length !== own.length || !timingSafeEqual(code, own)) throw new Error("a false code");
  let at = 0;
  const take = (count) => payload.subarray(at, (at += count));
  // Versions, lengths and counts here are below 128, so that they take one byte.
  const text = () => take(take(1)[0]).toString("utf8");
  if (take(1)[0] !== VELOCITY_VERSION) throw new Error("another layout than was asked for");
  const found = { address: text(), uuid: take(16).toString("hex"), name: text() };
  if (take(1)[0] !== 0 || at !== payload.length) throw new Error("properties of nobody");
  return found;
}

/** Asks the proxy who the player is, and has the library go on after that. */
function askForIdentity(client, secret, packet, goOn) {
  client.once("login_plugin_response", ({ messageId, data }) => {
    try {
      if (messageId !== 1 || data === undefined) throw new Error("no answer");
      client.forwarded = identityOf(data, secret);
      if (client.forwarded.name !== packet.username) throw new Error("another name");
    } catch (error) {
      return client.end(`the identity was not taken: ${error.message}`);
    }
    goOn(packet);
  });
  const data = Buffer.from([VELOCITY_VERSION]);
  client.write("login_plugin_request", { messageId: 1, channel: VELOCITY_CHANNEL, data });
}

/** What `bungeecord` writes behind the host: address, UUID and properties. */
function identityBehind(client) {
  const [host, address, uuid, properties] = client.serverHost.split("\0");
  if (properties !== "[]") return undefined;
  client.serverHost = host;
  return { address, uuid };
}

/** The packet that announces commands without arguments. */
function treeOf(names) {
  const flags = {
    unused: 0,
    allows_restricted: 0,
    has_custom_suggestions: 0,
    has_redirect_node: 0,
    has_command: 0,
    command_node_type: 0,
  };
  const commands = names.map((name) => ({
    flags: { ...flags, has_command: 1, command_node_type: 1 },
    children: [],
    extraNodeData: { name },
  }));
  const root = { flags, children: commands.map((_, at) => at + 1) };
  return { nodes: [root, ...commands], rootIndex: 0 };
}

/** What a backend asks its proxy: texts as Java's `DataOutput` writes them. */
function question(data, texts) {
  const channel = data.version.version < 393 ? "BungeeCord" : "bungeecord:main";
  const written = texts.map((text) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(text.length);
    return Buffer.concat([length, Buffer.from(text)]);
  });
  return { channel, data: Buffer.concat(written) };
}

/**
 * Starts a server on loopback and resolves, once it listens, to
 * `{ version, online, port, protocol, close }`.
 *
 * `plan(name)` says what happens to a player, with these keys, all optional:
 *
 *   at         the state in which the connection ends: "login",
 *              "configuration" or "play"; without it the player stays
 *   text       the words of that end; without them the connection just ends,
 *              in play when the player has sent the first payload
 *   reset      whether that is a reset (default: an orderly end)
 *   burst      bytes that are sent before an end in the play state
 *   threshold  of the compression (default 256), negative for none
 *   commands   names of its own commands, which it announces (1.13 and later)
 *   switches   names of servers: each time that the player has come and has sent a
 *              payload, the proxy is asked to bring him to the next of them
 *   forwarding how a proxy says who the player is: "bungeecord", or `{ secret }`
 *              for the signed answer of velocity (default: not at all)
 *
 * `onEvent(name, fields)` hears of `login`, `play`, `message`, `said` (a line of
 * chat, or a command with its `/`), `alive` (the answer to a keep alive), `leave` and `error`.
 */
export async function startServer({
  version,
  online = false,
  port = 0,
  key = undefined,
  plan = () => ({}),
  onEvent = () => {},
}) {
  const data = minecraftData(version);
  const server = mc.createServer({
    host: "127.0.0.1",
    port,
    version,
    "online-mode": online,
    maxPlayers: 20,
    checkTimeoutInterval: KEEP_ALIVE_MS,
    kickTimeout: PATIENCE_MS,
    // What clients older than 1.7 are told, whose ping names no host.
    motd: motdOf(version, online, "nobody"),
    hideErrors: true,
    beforeLogin: (client) => {
      const uuid = client.forwarded?.uuid;
      if (uuid !== undefined) {
        client.uuid = uuid.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
      }
      const end = plan(client.username);
      if (end.at !== "login") return;
      sendAway(client, end);
      // Nothing that the library writes from here on may follow.
      client.write = () => {};
    },
    beforePing: (response, client) => {
      response.description = { text: motdOf(version, online, client.serverHost) };
      return response;
    },
    errorHandler: (client, error) => {
      onEvent("error", { name: client.username, text: String(error?.message ?? error) });
      client.end("the test server met an error");
    },
  });
  // A key takes a good part of a second to make; servers of one process share it.
  if (online && key !== undefined) server.serverKey = key;

  server.on("connection", (client) => {
    // Before the library handles the login start.
    const [goOn] = client.listeners("login_start");
    client.removeAllListeners("login_start");
    client.once("login_start", (packet) => {
      const { threshold, forwarding } = plan(packet.username);
      if (threshold !== undefined) compressFrom(client, threshold);
      if (forwarding === "bungeecord") client.forwarded = identityBehind(client);
      if (forwarding?.secret === undefined) return goOn(packet);
      askForIdentity(client, forwarding.secret, packet, goOn);
    });
  });

  server.on("login", (client) => {
    const name = client.username;
    onEvent("login", {
      name,
      uuid: client.uuid,
      host: client.serverHost,
      port: client.serverPort,
      address: client.socket.remoteAddress,
      encrypted: client.cipher !== null,
      forwarded: client.forwarded,
    });
    client.once("end", () => onEvent("leave", { name }));
    const end = plan(name);
    if (end.at !== "configuration") return;
    client.removeAllListeners("login_acknowledged");
    client.once("login_acknowledged", () => {
      client.state = mc.states.CONFIGURATION;
      sendAway(client, end);
    });
  });

  server.on("playerJoin", (client) => {
    const name = client.username;
    onEvent("play", { name });
    const end = plan(name);
    const target = end.switches?.shift();
    client.on("keep_alive", () => onEvent("alive", { name }));
    for (const packetName of ["chat", "chat_message"]) {
      client.on(packetName, (packet) => onEvent("said", { name, text: packet.message }));
    }
    for (const packetName of ["chat_command", "chat_command_signed"]) {
      client.on(packetName, (packet) => onEvent("said", { name, text: `/${packet.command}` }));
    }
    client.on("custom_payload", (packet) => {
      if (packet.channel === CROWD_CHANNEL) {
        for (const other of Object.values(server.clients)) {
          if (other.state === mc.states.PLAY) other.write("custom_payload", packet);
        }
      }
      if (packet.channel !== ECHO_CHANNEL) return;
      onEvent("message", { name, bytes: packet.data.length });
      if (end.at === "play") return sendAway(client, end);
      if (target !== undefined) {
        return client.write("custom_payload", question(data, ["Connect", target]));
      }
      client.write("custom_payload", packet);
    });
    client.write("login", loginPacket(data, client));
    if (end.commands !== undefined) client.write("declare_commands", treeOf(end.commands));
    if (end.at !== "play" || end.text === undefined) return;
    for (const piece of pieces(randomBytes(end.burst ?? 0))) {
      client.write("custom_payload", { channel: BURST_CHANNEL, data: piece });
    }
    sendAway(client, end);
  });

  await new Promise((resolve, reject) => {
    server.once("listening", resolve).once("error", reject);
  });
  server.on("error", (error) => onEvent("error", { text: error.message }));
  return {
    version,
    online,
    port: server.socketServer.address().port,
    protocol: data.version.version,
    key: () => server.serverKey,
    close: () => server.close(),
  };
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      version: { type: "string", default: mc.defaultVersion },
      online: { type: "boolean", default: false },
      offline: { type: "boolean", default: false },
      "session-url": { type: "string" },
      port: { type: "string", default: "0" },
      kick: { type: "string" },
      burst: { type: "string", default: "0" },
    },
  });
  if (values.online && values.offline) throw new Error("choose --online or --offline");
  if (values.online) {
    // Without an address of its own it would ask Mojang's server.
    if (values["session-url"] === undefined) throw new Error("--online needs --session-url");
    pointServersAt(values["session-url"]);
  }
  const burst = Number(values.burst);
  const plan = values.kick === undefined ? {} : { at: "play", text: values.kick, burst };
  const server = await startServer({
    version: values.version,
    online: values.online,
    port: Number(values.port),
    plan: () => plan,
    onEvent: emit,
  });
  emit("listening", { port: server.port, version: server.version, protocol: server.protocol });
  await stdinEnd();
  process.exit(0);
}
