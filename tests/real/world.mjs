// Bots of `mineflayer` in worlds of `flying-squid`: chunks and chat.
//
//   node world.mjs --direct      every bot goes straight to its server
//   node world.mjs               the jobs come from standard input
//   node world.mjs --only 1.8.9  the same, with the server of one version
//
// The lines of both sides are those of `matrix.mjs`, and so are the fields `id`,
// `version`, `host`, `proves` and `proxy` of a job. A job with `moved` has the world
// send the bot away, which is to come back by the other server of the network.

import { createHash } from "node:crypto";
import { parseArgs } from "node:util";
import squid from "flying-squid";
import mineflayer from "mineflayer";
import { authenticated, dialling, GAME_PORT } from "./client.mjs";
import { eachBatch, emit, PATIENCE_MS, runToEnd, within } from "./common.mjs";
import { startSessionServer } from "./session_server.mjs";

/** Versions that `flying-squid` names as tested and that work without a proxy. */
const VERSIONS = ["1.8.8", "1.12.2", "1.16.5", "1.18.2", "1.19.2", "1.20.2", "1.21.4"];

/** How far, in chunks, the world is sent around a player. */
const VIEW_CHUNKS = 2;

/** The chunks that a player with that view gets at once. */
const CHUNKS_MIN = (2 * VIEW_CHUNKS) ** 2;

/** How long one job may take, in milliseconds. */
const JOB_MS = 240_000;

/** What a server wrote to each player in the play state, by name. */
const written = new Map();

function digest(bytes) {
  return createHash("sha1").update(bytes).digest("hex");
}

/** Starts a world on loopback; resolves once players can come in. */
async function startWorld(version) {
  const server = squid.createMCServer({
    version,
    host: "127.0.0.1",
    port: 0,
    "online-mode": false,
    "max-players": 20,
    "view-distance": VIEW_CHUNKS,
    "player-list-text": { header: { text: "" }, footer: { text: "" } },
    "max-entities": 100,
    generation: { name: "diamond_square", options: { worldHeight: 80, seed: 1 } },
    gameMode: 1,
    difficulty: 0,
    kickTimeout: PATIENCE_MS,
    motd: "world",
    logging: false,
    plugins: {},
    modpe: false,
    worldFolder: undefined,
    "everybody-op": false,
  });
  server._server.on("connection", (client) => {
    const packets = [];
    client.on("state", (now) => {
      if (now !== "play") return;
      written.set(client.username, packets);
      client.serializer.on("data", (bytes) => packets.push(digest(bytes)));
    });
    const { writeRaw } = client;
    client.writeRaw = (bytes) => {
      packets.push(digest(bytes));
      writeRaw.call(client, bytes);
    };
  });
  server.on("error", (error) => emit("error", { text: String(error?.stack ?? error) }));
  await server.waitForReady(JOB_MS);
  return { version, server, port: server._server.socketServer.address().port };
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** Resolves when `event` of `emitter` satisfies `wanted`. */
function heard(emitter, event, wanted) {
  return new Promise((resolve) => {
    emitter.on(event, function hear(...values) {
      if (!wanted(...values)) return;
      emitter.off(event, hear);
      resolve();
    });
  });
}

let bots = 0;

/** A bot comes in, gets a world, chats both ways, and leaves. */
async function visit(job, context, world) {
  bots += 1;
  const name = `Bot_${bots}`;
  const bot = mineflayer.createBot({
    host: job.host,
    port: GAME_PORT,
    version: job.version,
    username: name,
    hideErrors: true,
    logErrors: false,
    connect: dialling(context.address),
    checkTimeoutInterval: PATIENCE_MS,
    ...(job.proves ? authenticated(name, context.session) : {}),
  });
  const failed = new Promise((_, reject) => {
    bot.on("error", reject);
    bot.on("kicked", (reason) => reject(new Error(`kicked: ${JSON.stringify(reason)}`)));
    bot.on("end", (reason) => reject(new Error(`the connection ended: ${reason}`)));
  });
  failed.catch(() => {});
  const packets = [];
  let chunks = 0;
  let bytes = 0;
  bot._client.on("packet", (packet, { name, state }, _parsed, whole) => {
    if (state !== "play") return;
    packets.push({ name, digest: digest(whole) });
    bytes += whole.length;
    if (name === "map_chunk") chunks += 1;
    if (name === "map_chunk_bulk") chunks += packet.meta.length;
  });
  /** Words go both ways: the server sends to everybody what a player says. */
  async function chat(number) {
    const own = `from the bot ${name}, ${number}`;
    const back = step("the bot's words", heard(bot, "messagestr", (text) => text.includes(own)));
    bot.chat(own);
    await back;
    const others = `from the server to ${name}, ${number}`;
    const there = step(
      "the server's words",
      heard(bot, "messagestr", (text) => text.includes(others)),
    );
    world.server.broadcast(others);
    await there;
  }
  const step = (what, promise) => within(JOB_MS, what, Promise.race([promise, failed]));
  try {
    const enough = () => chunks >= CHUNKS_MIN;
    await step("chunks", heard(bot._client, "packet", enough));
    await step("the spawn", bot.entity ? Promise.resolve() : heard(bot, "spawn", () => true));
    await chat(1);
    if (job.moved) {
      chunks = 0;
      const why = `sent away: ${name}`;
      const notice = heard(bot, "messagestr", (text) => text.endsWith(`: ${why}`));
      const loaded = heard(bot._client, "packet", enough);
      // A join game alone leaves older clients in the world that they have.
      const isConfigured = bot.supportFeature("hasConfigurationState");
      const way = isConfigured ? ["start_configuration", "login"] : ["login", "respawn"];
      const led = Promise.all(way.map((packet) => heard(bot._client, packet, () => true)));
      world.server.players.find((player) => player.username === name).kick(why);
      await step("the reason of the move", notice);
      await step("the way to another world", led);
      await step("chunks after the move", loaded);
      await chat(2);
    }
  } finally {
    bot.end("done");
  }
  check((bot._client.cipher !== null) === (job.proves === true), "the encryption is not as wanted");
  const sent = written.get(name);
  // The proxy leads the way from one world to the next with packets of its own.
  if (job.moved) return { chunks, packets: packets.length, bytes };
  packets.forEach((packet, at) => {
    // The name of the software is the one thing that the proxy adds to.
    if (packet.name === "custom_payload") return;
    check(packet.digest === sent[at], `packet ${at}, a ${packet.name}, is not as it was sent`);
  });
  return { chunks, packets: packets.length, bytes };
}

async function runJob(job, context, worlds) {
  const started = performance.now();
  const took = () => Math.round(performance.now() - started);
  try {
    const world = worlds.find((one) => one.version === job.version);
    const found = await within(JOB_MS, "the visit", visit(job, context, world));
    emit("result", { id: job.id, ok: true, ms: took(), ...found });
    return true;
  } catch (error) {
    emit("result", { id: job.id, ok: false, ms: took(), error: String(error?.message ?? error) });
    return false;
  }
}

/** Does the jobs one by one; resolves to whether all passed. */
async function runBatch(batch, session, worlds) {
  let passed = 0;
  for (const job of batch.jobs) {
    const context = { address: job.proxy ?? batch.proxy, session };
    if (await runJob(job, context, worlds)) passed += 1;
  }
  const failed = batch.jobs.length - passed;
  emit("summary", { passed, failed, left: 0 });
  return failed === 0;
}

async function main() {
  const { values } = parseArgs({
    options: { direct: { type: "boolean", default: false }, only: { type: "string" } },
  });
  const session = await startSessionServer();
  const worlds = [];
  for (const version of VERSIONS.filter((one) => [undefined, one].includes(values.only))) {
    worlds.push(await startWorld(version));
  }
  emit("ready", {
    session: session.url,
    servers: worlds.map(({ version, port }) => ({ version, port })),
  });
  if (values.direct) {
    const jobs = worlds.map(({ version, port }) => ({
      id: `direct ${version}`,
      version,
      host: "world.direct.example",
      proxy: { host: "127.0.0.1", port },
    }));
    return await runBatch({ jobs }, session.url, worlds);
  }
  return await eachBatch((batch) => runBatch(batch, session.url, worlds));
}

await runToEnd(main);
