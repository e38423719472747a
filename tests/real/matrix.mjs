// Many joins and status pings of many game versions in one process, because
// loading the packets of a version takes longer than using them.
//
//   node matrix.mjs --direct      every join goes straight to its backend
//   node matrix.mjs               the joins come from standard input
//   node matrix.mjs --only 1.8.9  the same, with the backends of one version
//
// The second form first prints where its backends listen:
//
//   {"event":"ready","session":URL,"servers":[{"version":"1.8.9","protocol":47,"online":false,"port":N,"between":false},...]}
//
// Each line of standard input is then one batch:
//
//   {"proxy":{"host":"127.0.0.1","port":N},"jobs":[{"id":"a","do":"play",...}]}
//
// answered by one line `{"event":"result","id":"a","ok":true,...}` a job and by
// `{"event":"summary","passed":N,"failed":N,"left":N}`, where `left` counts jobs
// that were not begun after too many failures. The program ends with standard
// input; its exit code is 0 when all jobs of all batches passed. A job has
//
//   id          a name for the reader of the results
//   do          one of the keys of `jobs` below, which tell what each proves
//   version     of the client, and of the backend it is to reach
//   online      whether the backend authenticates (default false)
//   proves      whether the proxy authenticates, and the backend does not
//               (default false)
//   uuid        the UUID that the client is to get: "profile", the one of the
//               session server, or "offline" (default: "profile" if `online`)
//   host        the virtual host in the handshake
//   seenHost    what the backend is to see in its place (default `host`)
//   text        what the disconnect text must contain (default: any words)
//   kick        what a backend says that sends a player away, if it says anything
//   servers     the two servers between which a player is brought to and fro
//   notice      what a player reads who comes to another backend, or whose line is
//               dropped
//   greeting    what a plugin says to a player who joins, with `{name}` for the name
//   hasTree     whether clients of the version get the names of commands
//   dropped     a line of chat that a plugin drops
//   reset       whether a backend that is lost resets the connection (default:
//               false, an orderly end)
//   backendThreshold, clientThreshold
//               the compression of both sides, negative for none (default: 256,
//               and whatever the proxy announces)
//   forwarding  how the proxy says who the player is: "bungeecord", or
//               {"secret":TEXT} for velocity (default: not at all)
//   proxy       where to connect, if not to the proxy of the batch

import { parseArgs } from "node:util";
import mc from "minecraft-protocol";
import { join, status, GAME_PORT } from "./client.mjs";
import { eachBatch, emit, runToEnd, within } from "./common.mjs";
import { motdOf, pointServersAt, startServer } from "./server.mjs";
import { offlineId, profileId, startSessionServer } from "./session_server.mjs";

/**
 * The game versions: one of each generation of the protocol (1.8 compression,
 * 1.13 and 1.16 new formats, 1.20.2 configuration state, 1.20.5 transfer), and
 * the newest that the library knows. All of them pass without a proxy.
 */
const VERSIONS = [
  ...new Set([
    "1.7.10",
    "1.8.9",
    "1.12.2",
    "1.16.5",
    "1.18.2",
    "1.20.4",
    "1.20.6",
    "1.21.4",
    mc.defaultVersion,
  ]),
];

/**
 * Versions between those, with a backend that does not authenticate, for the
 * modes in which the proxy speaks the protocol: each has other packet ids or
 * layouts in login, configuration or join game.
 */
const BETWEEN = [
  "1.9.4",
  "1.13.2",
  "1.15.2",
  "1.16.1",
  "1.19",
  "1.19.2",
  "1.19.4",
  "1.20.1",
  "1.20.2",
  "1.21.11",
].filter((version) => !VERSIONS.includes(version));

/** Jobs at work at a time: enough to overlap waits, few for a small machine. */
const PARALLEL = 4;

/** How long one job may take, in milliseconds; most take less than 500 on a fast machine. */
const JOB_MS = 240_000;

/** What the proxy answers to a status ping if the backend has not answered in time. */
const UNREACHABLE = "This server is currently unreachable.";

/** The protocol version since which texts are NBT behind the login (1.20.3). */
const NBT_TEXTS = 765;

/** A batch ends after so many failures: each may have waited for its deadline. */
const FAILURES_MAX = 12;

/** Bytes that make the way to the backend and back in the play state. */
const ECHO_BYTES = 100_000;

/** Bytes that a backend sends just before it kicks a player. */
const BURST_BYTES = 300_000;

/** How long to wait, in milliseconds, between tries for a slot that another player left. */
const RETRY_MS = 25;

/**
 * Players of a crowd, how many of them come at a time, the lines that each says, and
 * the pause between two, in ms. All at once would be a test of how long a login waits.
 */
const CROWD = 50;
const CROWD_ENTERS = 5;
const CROWD_LINES = 10;
const CROWD_PAUSE_MS = 1000;

/** How often a player is brought to another server. */
const SWITCHES = 10;

/** How long a crowd may take, in milliseconds. */
const CROWD_MS = 480_000;

/** What a backend tells a player whom it kicks. */
const kickText = (version) => `kicked by the backend of ${version}`;

/** The stories of the players who are expected, by name. */
const ledger = new Map();

/**
 * Expects a player with whom the backend does as `plan` says, and when he comes a
 * second time as `next` says.
 */
function expectPlayer(name, plan, next = undefined) {
  const visits = plan.switches === undefined ? 2 : plan.switches.length + 1;
  const story = { plan, next, visits: next === undefined ? 1 : visits };
  const heard = ["login", "left", "loginAgain", "aliveAgain"].map((what) => [
    what,
    new Promise((resolve) => (story[what] = resolve)),
  ]);
  ledger.set(name, story);
  return Object.fromEntries(heard);
}

function backendEvent(event, fields) {
  const story = ledger.get(fields.name);
  if (story === undefined) return;
  if (event === "login" && story.hasCome) {
    story.hasComeAgain = true;
    story.plan = story.next ?? story.plan;
    story.loginAgain(fields);
  } else if (event === "login") {
    story.hasCome = true;
    story.login(fields);
  }
  if (event === "alive" && story.hasComeAgain) story.aliveAgain();
  if (event === "said") story.plan.onSaid?.(fields.text);
  if (event === "leave") {
    story.visits -= 1;
    if (story.visits > 0) return;
    story.left();
    ledger.delete(fields.name);
  }
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function same(what, seen, wanted) {
  check(seen === wanted, `${what} is ${JSON.stringify(seen)}, not ${JSON.stringify(wanted)}`);
}

let players = 0;

/** A name that no other job of this process has. */
function playerName(prefix = "Player") {
  players += 1;
  return `${prefix}_${players}`;
}

/** Whether the client of a job proves who the player is. */
function authenticates(job) {
  return job.online === true || job.proves === true;
}

/** The form of the text that ends a connection in `state`. */
function formOf(state, protocol) {
  return state !== "login" && protocol >= NBT_TEXTS ? "nbt" : "json";
}

/** Joins as the job says and checks what the backend saw of it. */
async function enter(job, context, name, options = {}, plan = {}, next = undefined) {
  const always = { threshold: job.backendThreshold, forwarding: job.forwarding };
  const expected = expectPlayer(
    name,
    { ...always, ...plan },
    next === undefined ? undefined : { ...always, ...next },
  );
  try {
    const player = join({
      address: context.address,
      host: job.host,
      version: job.version,
      name,
      session: authenticates(job) ? context.session : undefined,
      bytes: ECHO_BYTES,
      ...options,
    });
    // Whichever comes first: a player who never arrives was refused on the way.
    const login = await Promise.race([
      expected.login,
      player.done.then((end) => {
        throw new Error(`the backend did not see the player, who read ${JSON.stringify(end.text)}`);
      }),
    ]);
    same("the host that the backend saw", login.host, job.seenHost ?? job.host);
    same("the port that the backend saw", login.port, GAME_PORT);
    same("encryption at the backend", login.encrypted, job.online === true);
    if (job.forwarding !== undefined) {
      same("the forwarded address", login.forwarded?.address, "127.0.0.1");
      const uuid = job.uuid === "profile" ? profileId(name) : offlineId(name);
      same("the forwarded UUID", login.forwarded?.uuid, uuid);
    }
    return { player, ...expected };
  } catch (error) {
    ledger.delete(name);
    throw error;
  }
}

/** Tries to join where no player is let in; resolves to the disconnect text. */
async function refused(job, context, plan = {}) {
  const name = playerName();
  expectPlayer(name, plan);
  const player = join({
    address: context.address,
    host: job.host,
    version: job.version,
    name,
    session: authenticates(job) ? context.session : undefined,
  });
  const end = await player.done;
  ledger.delete(name);
  same("the outcome", end.outcome, "kicked");
  same("the state of the refusal", end.state, "login");
  same("the form of the refusal", end.form, "json");
  check(end.text.trim() !== "", "the refusal has no words");
  check(
    end.text.includes(job.text ?? ""),
    `the refusal says ${JSON.stringify(end.text)}, not ${JSON.stringify(job.text)}`,
  );
  return { text: end.text };
}

/** A connection that the backend ends in a state: the player reads `text` in it. */
async function endIn(state, text, plan, job, context) {
  // In play a byte says that the player is there, before the connection ends.
  const stays = { bytes: 1, stay: true };
  const name = playerName();
  const { player, left } = await enter(job, context, name, stays, { ...plan, at: state });
  const end = await player.done;
  same("the outcome", end.outcome, "kicked");
  same("the state", end.state, state);
  same("the form of the text", end.form, formOf(state, context.protocol));
  same("the text", end.text, text);
  await within(JOB_MS, "the end of the session at the backend", left);
  return { text: end.text };
}

const jobs = {
  /** A status ping: the backend's answer arrives, and so does the pong. */
  async status(job, context) {
    const target = {
      address: context.address,
      host: job.host,
      version: job.version,
      ms: JOB_MS,
    };
    let answer = await status(target);
    // The proxy waits 5 s for a backend's answer, and asks again a second after a failure. A
    // backend that has to generate a world on a loaded machine needs longer.
    for (const end = Date.now() + JOB_MS / 2; answer.text.includes(UNREACHABLE);) {
      if (Date.now() > end) break;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      answer = await status(target);
    }
    const seenHost = job.seenHost ?? job.host;
    same("the text", answer.text, motdOf(job.version, job.online === true, seenHost));
    same("the protocol", answer.version.protocol, context.protocol);
    same("the maximum of players", answer.players.max, 20);
    return { text: answer.text };
  },

  /** A whole session: join, bytes there and back, leave, seen by both ends. */
  async play(job, context) {
    const name = playerName();
    const { player, left } = await enter(job, context, name);
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    same("encryption at the client", end.encrypted, job.online === true || job.proves === true);
    if (job.clientThreshold !== undefined) {
      // The library has no compressor until it reads a threshold.
      const wanted = job.clientThreshold < 0 ? -2 : job.clientThreshold;
      same("the threshold at the client", end.threshold, wanted);
    }
    const uuid = job.uuid ?? (job.online ? "profile" : undefined);
    const wanted = { profile: profileId(name), offline: offlineId(name) }[uuid];
    if (uuid !== undefined) same("the UUID", end.uuid.replaceAll("-", ""), wanted);
    await within(JOB_MS, "the end of the session at the backend", left);
    return {};
  },

  /** A kick while playing: every byte before it and its text arrive. */
  async kick(job, context) {
    const stays = { bytes: 0, stay: true };
    const plan = { at: "play", text: kickText(job.version), burst: BURST_BYTES };
    const { player, left } = await enter(job, context, playerName(), stays, plan);
    const end = await player.done;
    same("the outcome", end.outcome, "kicked");
    same("the state of the kick", end.state, "play");
    same("the form of the text", end.form, formOf("play", context.protocol));
    same("the text", end.text, kickText(job.version));
    same("the bytes before the kick", end.burst, BURST_BYTES);
    await within(JOB_MS, "the end of the session at the backend", left);
    return { text: end.text };
  },

  /**
   * The backend sends the player away in the configuration state: its text
   * arrives there.
   */
  async kickedEarly(job, context) {
    const text = kickText(job.version);
    return await endIn("configuration", text, { text }, job, context);
  },

  /** The backend is lost in the configuration state: the proxy's text arrives there. */
  async lostEarly(job, context) {
    return await endIn("configuration", job.text, { reset: job.reset }, job, context);
  },

  /** The backend is lost while the player plays: the proxy's text arrives. */
  async lost(job, context) {
    return await endIn("play", job.text, { reset: job.reset }, job, context);
  },

  /**
   * The backend is lost, or sends the player away, and he comes to another server
   * of the network: he reads why, bytes go there and back, keep alives are answered,
   * and he leaves when he wants to.
   */
  async moved(job, context) {
    const name = playerName();
    const chat = [];
    const options = { world: 2, stay: true, onChat: (text) => chat.push(text) };
    const plan = { at: "play", text: job.kick, reset: job.reset };
    const found = await enter(job, context, name, options, plan, {});
    const { player } = found;
    await player.playing;
    const again = await found.loginAgain;
    same("the host that the other backend saw", again.host, job.host);
    same("the UUID at the other backend", again.uuid, (await found.login).uuid);
    await found.aliveAgain;
    same("the chat", chat.join(), job.notice);
    player.leave();
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    same("encryption at the client", end.encrypted, authenticates(job));
    await within(JOB_MS, "the end of both sessions at the backend", found.left);
    return { text: job.notice };
  },

  /**
   * The backend has the player brought to another server and back, ten times: each time
   * he is in another world, and in the last one bytes go there and back.
   */
  async switched(job, context) {
    const name = playerName();
    const switches = Array.from({ length: SWITCHES }, (_, at) => job.servers[(at + 1) % 2]);
    const chat = [];
    const options = { world: SWITCHES + 1, stay: true, onChat: (text) => chat.push(text) };
    const plan = { switches };
    const found = await enter(job, context, name, options, plan, plan);
    const { player } = found;
    await player.playing;
    same("the switches that are left", switches.length, 0);
    same("the UUID at the other backend", (await found.loginAgain).uuid, (await found.login).uuid);
    same("the chat", chat.join(), "");
    await found.aliveAgain;
    player.leave();
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    same("encryption at the client", end.encrypted, authenticates(job));
    await within(JOB_MS, "the end of all sessions at the backend", found.left);
    return {};
  },

  /**
   * A plugin drops a line of chat and says why: the backend hears the others, and the
   * player reads the reason.
   */
  async guarded(job, context) {
    const [said, read] = [[], []];
    let resolveAll;
    const all = new Promise((resolve) => (resolveAll = resolve));
    const count = () => said.length === 2 && read.length === 1 && resolveAll();
    const options = {
      stay: true,
      onChat: (text) => {
        read.push(text);
        count();
      },
    };
    const plan = {
      onSaid: (text) => {
        said.push(text);
        count();
      },
    };
    const { player, left } = await enter(job, context, playerName(), options, plan);
    await player.playing;
    for (const line of ["hello", job.dropped, "goodbye"]) player.chat(line);
    await within(JOB_MS, "what is written and read", all);
    same("what the backend heard", said.join(), "hello,goodbye");
    same("what the player read", read.join(), job.notice);
    player.leave();
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    await within(JOB_MS, "the end of the session at the backend", left);
    return {};
  },

  /**
   * A plugin greets the player on two servers of a network: the backend of the first
   * closes, and he comes to the other, where bytes go there and back.
   */
  async greeted(job, context) {
    const name = playerName();
    const greeting = job.greeting.replace("{name}", name);
    const read = [];
    let resolveTwice;
    const twice = new Promise((resolve) => (resolveTwice = resolve));
    const onChat = (text) => {
      read.push(text);
      // Both, and what he reads about the move.
      const greetings = read.filter((line) => line === greeting).length;
      if (greetings === 2 && read.length >= 3) resolveTwice();
    };
    const options = { world: 2, stay: true, onChat };
    const found = await enter(job, context, name, options, { at: "play" }, {});
    const { player } = found;
    await player.playing;
    await within(JOB_MS, `two greetings, beside ${read.join("; ")}`, twice);
    same("the first line", read[0], greeting);
    same("the lines", read.length, 3);
    same("the host that the other backend saw", (await found.loginAgain).host, job.seenHost);
    player.leave();
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    same("encryption at the client", end.encrypted, authenticates(job));
    await within(JOB_MS, "the end of both sessions at the backend", found.left);
    return {};
  },

  /**
   * A plugin has the commands `echo` and `secret`, which is for admins: the one stands in
   * the tree beside that of the backend, is completed and answered. The other, and one
   * that no plugin may have, are not there, and the backend gets them.
   */
  async commanded(job, context) {
    const [said, read, trees] = [[], [], []];
    const waiting = [];
    /** Resolves when `isSo` holds; each event asks again. */
    const until = (what, isSo) =>
      within(JOB_MS, what, new Promise((resolve) => {
        const look = () => isSo() && resolve();
        waiting.push(look);
        look();
      }));
    const add = (list) => (value) => {
      list.push(value);
      for (const look of waiting) look();
    };
    const suggested = [];
    const options = {
      stay: true,
      onChat: add(read),
      onTree: add(trees),
      onSuggestions: add(suggested),
    };
    const commands = job.hasTree ? ["backend"] : undefined;
    const plan = { commands, onSaid: add(said) };
    const { player, left } = await enter(job, context, playerName(), options, plan);
    await player.playing;
    if (job.hasTree) {
      await until("the commands", () => trees.length > 0);
      const tree = trees.at(-1);
      for (const name of ["echo", "backend"]) check(tree.includes(name), `no ${name} in ${tree}`);
      for (const name of ["secret", "stop"]) check(!tree.includes(name), `${name} in ${tree}`);
    }
    player.complete("/echo a");
    await until("suggestions", () => suggested.length > 0);
    same("the suggestions", suggested[0].toSorted().join(), "<a>,more");
    player.chat("/echo hello there");
    await until("the answer", () => read.length > 0);
    same("the answer", read.join(), "echo hello there");
    for (const line of ["/secret x", "/stop now", "/backend"]) player.chat(line);
    await until("what is for the backend", () => said.length >= 3);
    same("what the backend heard", said.join(), "/secret x,/stop now,/backend");
    player.leave();
    const end = await player.done;
    same("the outcome", end.outcome, "played");
    await within(JOB_MS, "the end of the session at the backend", left);
    return {};
  },

  /** A join that must end with a disconnect text in the login state. */
  refused,

  /** The backend sends the player away in the login state with its own text. */
  async turnedAway(job, context) {
    const text = kickText(job.version);
    return await refused({ ...job, text }, context, { at: "login", text });
  },

  /** A client that encrypts, but has not joined at the session server. */
  async unproved(job, context) {
    return await refused({ ...job, online: false, proves: false }, context);
  },

  /**
   * A server with room for one: the second player is refused with the text, a
   * status ping is not, and when the first has left there is room again.
   */
  async full(job, context) {
    const { player } = await enter(job, context, playerName(), { stay: true });
    try {
      await player.playing;
      await jobs.status(job, context);
      await refused(job, context);
    } finally {
      player.leave();
    }
    await player.done;
    // Nothing tells the client when the proxy has counted the slot as free.
    for (const end = Date.now() + JOB_MS / 2; ;) {
      try {
        return await jobs.play(job, context);
      } catch (error) {
        if (Date.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  },
};

/** Ten seconds of talk on one server: everybody hears every line, in order. */
jobs.crowd = async (job, context) => {
  const heard = [];
  const member = async () => {
    const lines = [];
    heard.push(lines);
    // Crowds of other jobs may talk at the same backend.
    const onLine = (line) => line.startsWith(job.id) && lines.push(line);
    const options = { bytes: 1, stay: true, onLine };
    const { player } = await enter(job, context, playerName(), options);
    await player.playing;
    return player;
  };
  const members = [];
  while (members.length < CROWD) {
    members.push(...(await Promise.all(Array.from({ length: CROWD_ENTERS }, member))));
  }
  const said = [];
  const everybodyHeard = () => heard.every((lines) => lines.length >= said.length);
  for (let line = 0; line < CROWD_LINES; line += 1) {
    members.forEach((player, at) => {
      said.push(`${job.id}: line ${line} of ${at}`);
      player.say(said.at(-1));
    });
    await new Promise((resolve) => setTimeout(resolve, CROWD_PAUSE_MS));
  }
  while (!everybodyHeard()) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  const wanted = said.toSorted().join();
  for (const lines of heard) {
    check(lines.join() === heard[0].join(), "two players heard the lines in another order");
    check(lines.toSorted().join() === wanted, "the lines that were heard are not those said");
  }
  for (const player of members) player.leave();
  await Promise.all(members.map((player) => player.done));
  return { lines: CROWD * said.length };
};

async function runJob(job, batch, fleet) {
  const started = performance.now();
  const facts = { id: job.id, do: job.do, version: job.version, online: job.online === true };
  const took = () => Math.round(performance.now() - started);
  try {
    const work = Object.hasOwn(jobs, job.do) ? jobs[job.do] : undefined;
    check(work !== undefined, `there is no job ${job.do}`);
    const backend = fleet.find((one) => one.version === job.version);
    check(backend !== undefined, `there is no backend of version ${job.version}`);
    const address = job.proxy ?? batch.proxy;
    const context = { address, session: batch.session, protocol: backend.protocol };
    const ms = job.do === "crowd" ? CROWD_MS : JOB_MS;
    const found = await within(ms, job.do, work(job, context));
    emit("result", { ...facts, ok: true, ms: took(), ...found });
    return true;
  } catch (error) {
    emit("result", { ...facts, ok: false, ms: took(), error: String(error?.message ?? error) });
    return false;
  }
}

/** Does the jobs of a batch, a few at a time; resolves to whether all passed. */
async function runBatch(batch, fleet) {
  const started = performance.now();
  const queue = batch.jobs.values();
  let passed = 0;
  let failed = 0;
  // Every worker takes its next job from the one queue.
  async function worker() {
    while (failed < FAILURES_MAX) {
      const { value: job, done } = queue.next();
      if (done) return;
      if (await runJob(job, batch, fleet)) passed += 1;
      else failed += 1;
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  const left = batch.jobs.length - passed - failed;
  emit("summary", { passed, failed, left, ms: Math.round(performance.now() - started) });
  return failed === 0;
}

/** One backend for each version and kind of authentication. */
async function startFleet(versions) {
  const fleet = [];
  for (const version of versions) {
    for (const online of BETWEEN.includes(version) ? [false] : [false, true]) {
      const server = await startServer({
        version,
        online,
        key: fleet.find((one) => one.online)?.key(),
        plan: (name) => ledger.get(name)?.plan ?? {},
        onEvent: backendEvent,
      });
      fleet.push(server);
    }
  }
  return fleet;
}

/** The jobs that need no proxy, each at its backend's own address. */
function directJobs(fleet) {
  return fleet.flatMap(({ version, online, port }) =>
    ["status", "play", "kick"].map((what) => ({
      id: `direct ${what} ${version} ${online ? "online" : "offline"}`,
      do: what,
      version,
      online,
      host: `v${version}.direct.example`,
      proxy: { host: "127.0.0.1", port },
    })),
  );
}

async function main() {
  const { values } = parseArgs({
    options: { direct: { type: "boolean", default: false }, only: { type: "string" } },
  });
  const all = [...VERSIONS, ...BETWEEN];
  const versions = all.filter((one) => [undefined, one].includes(values.only));
  check(versions.length > 0, `there is no version ${values.only}, only ${all.join(", ")}`);
  const session = await startSessionServer();
  pointServersAt(session.url);
  const fleet = await startFleet(versions);
  emit("ready", {
    session: session.url,
    servers: fleet.map(({ version, online, port, protocol }) => ({
      version,
      online,
      port,
      protocol,
      between: BETWEEN.includes(version),
    })),
  });
  if (values.direct) {
    return await runBatch({ session: session.url, jobs: directJobs(fleet) }, fleet);
  }
  return await eachBatch((batch) => runBatch({ ...batch, session: session.url }, fleet));
}

await runToEnd(main);
