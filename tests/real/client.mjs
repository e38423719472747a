// A Minecraft client made of the library `minecraft-protocol`. What it dials
// and what it writes into the handshake are two addresses, as for a player
// whose host name leads to a proxy.
//
//   node client.mjs --host 127.0.0.1 --port N --version 1.8.9
//                   [--fake-host play.example.com] [--name Player]
//                   [--online --session-url URL] [--ping] [--bytes 65536]
//                   [--expect-kick TEXT]

import { randomBytes } from "node:crypto";
import net from "node:net";
import process from "node:process";
import { parseArgs } from "node:util";
import mc from "minecraft-protocol";
import { BURST_CHANNEL, CROWD_CHANNEL, ECHO_CHANNEL, emit, isMain, PATIENCE_MS, pieces, plainText, within } from "./common.mjs";
import { accessToken, profileId } from "./session_server.mjs";

/** The port that the handshake names unless a test wants another one. */
export const GAME_PORT = 25565;

/**
 * How long, in milliseconds, packets may arrive after the socket has ended: the
 * library tells of the end while it still decompresses what came before it.
 */
const AFTERMATH_MS = 30_000;

// The library would dial the host of its handshake; its `connect` option dials
// for it. Both a status ping and a login then name the same virtual host.
export function dialling(address) {
  return (client) => client.setSocket(net.connect(address.port, address.host));
}

/** A status ping and its pong; resolves to the answer with `latency`. */
export async function status({ address, host, version, port = GAME_PORT, ms = 10_000 }) {
  const answer = await mc.ping({
    host,
    port,
    version,
    closeTimeout: ms,
    noPongTimeout: ms,
    connect: dialling(address),
  });
  if (answer.latency === undefined) throw new Error("the status came without a pong");
  return { ...answer, text: plainText(answer.description) };
}

/**
 * Joins a server. The answer has two promises and two functions:
 *
 * - `playing` resolves when `bytes` random bytes came back as they were sent;
 * - `done` resolves after the connection ended, to `{ outcome: "played", uuid,
 *   encrypted, threshold }` or `{ outcome: "kicked", state, text, form, burst }`, and rejects
 *   when it ended in another way;
 * - `say(text)` sends a line to everybody; `onLine` hears those of everybody, and
 *   `onChat` the words of the chat, into which `chat(text)` writes;
 * - `complete(text)` asks what can follow; `onSuggestions` hears the answer, and `onTree`
 *   the names of the commands;
 * - `leave()` ends it; with `stay: false` that happens by itself.
 *
 * `session`, the address of a session server, makes the player authenticate. The
 * bytes are sent in the world number `world`; in those before it one empty payload.
 */
export function join({
  address,
  host,
  version,
  name,
  session,
  port = GAME_PORT,
  bytes = 0,
  world = 1,
  stay = false,
  onLine = () => {},
  onChat = () => {},
  onTree = () => {},
  onSuggestions = () => {},
}) {
  const client = mc.createClient({
    host,
    port,
    version,
    username: name,
    hideErrors: true,
    connect: dialling(address),
    checkTimeoutInterval: PATIENCE_MS,
    ...(session === undefined ? {} : authenticated(name, session)),
  });

  const sent = randomBytes(bytes);
  const received = [];
  let receivedBytes = 0;
  let burst = 0;
  let leaving = false;
  let played;
  let kicked;
  let ended = false;

  let resolvePlaying, rejectPlaying, resolveDone, rejectDone;
  const playing = new Promise((resolve, reject) => {
    [resolvePlaying, rejectPlaying] = [resolve, reject];
  });
  const done = new Promise((resolve, reject) => {
    [resolveDone, rejectDone] = [resolve, reject];
  });
  // Whoever awaits only one of the two must not crash on the other.
  playing.catch(() => {});
  done.catch(() => {});

  function fail(error) {
    rejectPlaying(error);
    rejectDone(error);
    client.end("failed");
  }

  // Called when one of the facts changes on which the outcome hangs; says
  // whether there is one.
  function settle() {
    if (!ended) return false;
    if (kicked !== undefined) {
      rejectPlaying(new Error(`kicked while in ${kicked.state}: ${kicked.text}`));
      resolveDone({ outcome: "kicked", ...kicked, burst });
      return true;
    }
    if (!leaving || played === undefined) return false;
    resolveDone({ outcome: "played", ...played });
    return true;
  }

  function leave() {
    leaving = true;
    client.end("done");
  }

  function cameBack() {
    if (receivedBytes < sent.length) return;
    if (!Buffer.concat(received).equals(sent)) {
      return fail(new Error("the bytes that came back are not the bytes that were sent"));
    }
    played = {
      uuid: client.uuid,
      encrypted: client.cipher !== null,
      threshold: client.compressionThreshold,
    };
    resolvePlaying(played);
    if (!stay) leave();
  }

  let worlds = 0;
  client.on("login", () => {
    worlds += 1;
    if (worlds > world) return fail(new Error("one world more than was expected"));
    if (worlds < world) {
      client.write("custom_payload", { channel: ECHO_CHANNEL, data: Buffer.alloc(0) });
      return;
    }
    for (const piece of pieces(sent)) {
      client.write("custom_payload", { channel: ECHO_CHANNEL, data: piece });
    }
    if (sent.length === 0) cameBack();
  });
  client.on("custom_payload", (packet) => {
    if (packet.channel === CROWD_CHANNEL) onLine(packet.data.toString("utf8"));
    if (packet.channel === BURST_CHANNEL) burst += packet.data.length;
    if (packet.channel !== ECHO_CHANNEL) return;
    received.push(packet.data);
    receivedBytes += packet.data.length;
    cameBack();
  });
  for (const packetName of ["chat", "system_chat"]) {
    client.on(packetName, (packet) => onChat(plainText(packet.message ?? packet.content)));
  }
  client.on("declare_commands", ({ nodes, rootIndex }) => {
    onTree(nodes[rootIndex].children.map((at) => nodes[at].extraNodeData.name));
  });
  client.on("tab_complete", ({ matches }) => {
    // Before 1.13 they are whole texts.
    onSuggestions(matches.map((one) => (typeof one === "string" ? one : one.match)));
  });
  // One name in login and configuration, another one in the play state.
  for (const packetName of ["disconnect", "kick_disconnect"]) {
    client.once(packetName, (packet, metadata) => {
      const form = typeof packet.reason === "string" ? "json" : "nbt";
      kicked = { state: metadata.state, text: plainText(packet.reason), form };
      settle();
    });
  }
  client.on("error", (error) => {
    // A reset just behind a kick is how some servers say goodbye.
    if (kicked === undefined && !leaving) setTimeout(fail, AFTERMATH_MS, error).unref();
  });
  client.once("end", (reason) => {
    ended = true;
    if (settle()) return;
    const what = `the connection ended in state ${client.state} (${reason}), without a text`;
    setTimeout(fail, AFTERMATH_MS, new Error(what)).unref();
  });

  function say(text) {
    client.write("custom_payload", { channel: CROWD_CHANNEL, data: Buffer.from(text) });
  }

  function chat(text) {
    client.chat(text);
  }

  function complete(text) {
    // Each version writes the fields that it has.
    const fields = { transactionId: 1, assumeCommand: false, lookedAtBlock: undefined };
    client.write("tab_complete", { ...fields, text });
  }

  return { playing, done, say, chat, complete, leave };
}

/** Options of a player whom the session server at `session` knows. */
export function authenticated(name, session) {
  return {
    sessionServer: session,
    auth: (client, options) => {
      client.username = name;
      client.session = { selectedProfile: { id: profileId(name), name } };
      options.accessToken = accessToken(name);
      options.haveCredentials = true;
      options.connect(client);
    },
  };
}

async function main() {
  const { values } = parseArgs({
    options: {
      host: { type: "string", default: "127.0.0.1" },
      port: { type: "string" },
      version: { type: "string", default: mc.defaultVersion },
      "fake-host": { type: "string" },
      name: { type: "string", default: "Player" },
      online: { type: "boolean", default: false },
      offline: { type: "boolean", default: false },
      "session-url": { type: "string" },
      ping: { type: "boolean", default: false },
      bytes: { type: "string", default: String(4 * 16 * 1024) },
      "expect-kick": { type: "string" },
      "deadline-ms": { type: "string", default: "20000" },
    },
  });
  if (values.port === undefined) throw new Error("--port is missing");
  if (values.online && values["session-url"] === undefined) {
    throw new Error("--online needs --session-url");
  }
  const ms = Number(values["deadline-ms"]);
  const target = {
    address: { host: values.host, port: Number(values.port) },
    host: values["fake-host"] ?? values.host,
    version: values.version,
  };
  if (values.ping) {
    const { text, version, players, latency } = await within(ms, "status", status(target));
    emit("status", { text, version, players, latency });
  }
  const player = join({
    ...target,
    name: values.name,
    session: values.online ? values["session-url"] : undefined,
    bytes: Number(values.bytes),
  });
  player.playing.then(
    (facts) => emit("play", facts),
    () => {},
  );
  const end = await within(ms, "join", player.done);
  if (end.outcome === "kicked") emit("kicked", end);
  emit("end", { outcome: end.outcome });
  const wanted = values["expect-kick"];
  return wanted === undefined
    ? end.outcome === "played"
    : end.outcome === "kicked" && end.text.includes(wanted);
}

if (isMain(import.meta.url)) {
  try {
    process.exit((await main()) ? 0 : 1);
  } catch (error) {
    emit("error", { text: error.message });
    process.exit(1);
  }
}
