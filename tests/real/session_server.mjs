// A session server on loopback in the place of Mojang's: clients tell it which
// server they join, servers ask it whether somebody did.
//
//   node session_server.mjs [--port 0]

import { createHash } from "node:crypto";
import http from "node:http";
import process from "node:process";
import { parseArgs } from "node:util";
import { emit, isMain, stdinEnd } from "./common.mjs";

/** How many joins are remembered until a server asks; the oldest goes first. */
const JOINS_MAX = 1024;

/** The longest body that is read, in bytes; a join has about 200. */
const BODY_BYTES_MAX = 4096;

/** The profile id of a player: fixed by the name, and unlike the offline one. */
export function profileId(name) {
  return createHash("md5").update(`session:${name}`).digest("hex");
}

/** The id that a server which authenticates nobody gives to a player. */
export function offlineId(name) {
  const bytes = createHash("md5").update(`OfflinePlayer:${name}`).digest();
  bytes[6] = (bytes[6] & 0x0f) | 0x30;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex");
}

/** The access token that this server accepts for a player. */
export function accessToken(name) {
  return `token:${name}`;
}

/** Starts the session server on loopback; resolves to `{ url, port, close }`. */
export async function startSessionServer({ port = 0 } = {}) {
  const joins = new Map();

  function join(body) {
    const name = String(body.accessToken ?? "").replace(/^token:/, "");
    if (accessToken(name) !== body.accessToken || profileId(name) !== body.selectedProfile) {
      return false;
    }
    joins.set(String(body.serverId), name);
    if (joins.size > JOINS_MAX) joins.delete(joins.keys().next().value);
    return true;
  }

  // As the real one: the answer is the profile, or 204 without a body.
  function hasJoined(query) {
    const name = joins.get(query.get("serverId"));
    if (name === undefined || name !== query.get("username")) return null;
    // It stays known: whoever gets no answer in time asks again.
    return { id: profileId(name), name, properties: [] };
  }

  const server = http.createServer((request, response) => {
    const answer = (status, value) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(value === undefined ? undefined : JSON.stringify(value));
    };
    if (!URL.canParse(request.url, "http://127.0.0.1")) return answer(400);
    const url = new URL(request.url, "http://127.0.0.1");
    if (request.method === "GET" && url.pathname === "/session/minecraft/hasJoined") {
      const profile = hasJoined(url.searchParams);
      return profile === null ? answer(204) : answer(200, profile);
    }
    if (request.method !== "POST" || url.pathname !== "/session/minecraft/join") {
      return answer(404, { error: "NotFound" });
    }
    let text = "";
    request.setEncoding("utf8");
    request.on("data", (part) => {
      text += part;
      if (text.length > BODY_BYTES_MAX) request.destroy();
    });
    request.on("end", () => {
      let body = {};
      try {
        body = JSON.parse(text) ?? {};
      } catch {
        // An empty object is refused below like any other wrong token.
      }
      if (join(body)) return answer(204);
      answer(403, { error: "ForbiddenOperationException", errorMessage: "invalid token" });
    });
  });

  await new Promise((resolve, reject) => {
    server.once("error", reject).listen(port, "127.0.0.1", resolve);
  });
  return {
    port: server.address().port,
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => server.close(),
  };
}

if (isMain(import.meta.url)) {
  const { values } = parseArgs({ options: { port: { type: "string", default: "0" } } });
  const session = await startSessionServer({ port: Number(values.port) });
  emit("listening", { port: session.port, url: session.url });
  await stdinEnd();
  process.exit(0);
}
