// What every program of this folder needs: lines of JSON, deadlines, and the
// plain words of a chat component.

import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import nbt from "prismarine-nbt";

/** The plugin channel whose payloads the server sends back unchanged. */
export const ECHO_CHANNEL = "infrarust:echo";

/** The plugin channel on which the server sends bytes nobody asked for. */
export const BURST_CHANNEL = "infrarust:burst";

/** The plugin channel whose payloads the server sends to everybody in play. */
export const CROWD_CHANNEL = "infrarust:crowd";

/**
 * The largest payload in one packet, in bytes. Minecraft 1.7 counts payloads in
 * a signed 16-bit number, and 16 KiB leaves room to be compressed badly.
 */
export const PIECE_BYTES = 16 * 1024;

/**
 * What the libraries wait for a player who is slow, in milliseconds: more than any job
 * takes, since one program is all players and servers, and a slow machine delays them all.
 */
export const PATIENCE_MS = 600_000;

/** Writes one event as one line of JSON to standard output. */
export function emit(event, fields = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

/** Whether the module with this `import.meta.url` is the program that was started. */
export function isMain(url) {
  return process.argv[1] === fileURLToPath(url);
}

/** The value of `promise`, or an error that names `what` after `ms` milliseconds. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves when whoever started this program closes its standard input. */
export function stdinEnd() {
  return new Promise((resolve) => {
    process.stdin.on("end", resolve).on("error", resolve).resume();
  });
}

/** Runs each line of JSON of standard input as a batch; resolves to whether all passed. */
export async function eachBatch(run) {
  let passed = true;
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "") continue;
    passed = (await run(JSON.parse(line))) && passed;
  }
  return passed;
}

/**
 * Runs a program to its end: it exits with 0 when `main` resolves to true, with 1 when
 * it does not, and with 2 when it throws.
 *
 * The library throws from timers and streams when bytes make no sense to it. The
 * session at fault then fails by its deadline, and the others go on; the program fails.
 */
export async function runToEnd(main) {
  let uncaught = 0;
  process.on("uncaughtException", (error) => {
    uncaught += 1;
    emit("error", { text: String(error?.stack ?? error) });
  });
  try {
    process.exit((await main()) && uncaught === 0 ? 0 : 1);
  } catch (error) {
    emit("error", { text: String(error?.stack ?? error) });
    process.exit(2);
  }
}

/** Cuts `bytes` into pieces that fit one packet each. */
export function* pieces(bytes) {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    yield bytes.subarray(at, at + PIECE_BYTES);
  }
}

/**
 * The words of a chat component in any of its forms: JSON text, an object, or
 * the NBT that play and configuration packets carry since 1.20.3.
 */
export function plainText(component) {
  if (typeof component === "string") {
    try {
      return words(JSON.parse(component));
    } catch {
      return component;
    }
  }
  const isNbt = typeof component?.type === "string" && "value" in component;
  return words(isNbt ? nbt.simplify(component) : component);
}

function words(part) {
  if (part === null || part === undefined) return "";
  if (Array.isArray(part)) return part.map(words).join("");
  if (typeof part !== "object") return String(part);
  // A bare string inside an NBT list is wrapped in a compound with an empty key.
  return (part.text ?? part[""] ?? part.translate ?? "") + words(part.extra);
}
