// Reads packets that were made elsewhere, and makes packets to be read elsewhere,
// with the packet descriptions of `minecraft-protocol`.
//
//   node packets.mjs      the jobs come from standard input
//
// One line of standard input has all jobs:
//
//   {"jobs": [{"id", "version", "state", "to", "packet"}, …]}
//
// `to` is "client" or "server", `packet` is hexadecimal: the id and the fields.
// In place of a `packet` a job may have the name of one to `make`: `login`, the
// join game, or `respawn`. Each job has one answer:
//
//   {"event": "packet", "id", "name", "params", "packet"}
//
// with the bytes that the library writes for what it has read, or
//
//   {"event": "packet", "id", "error"}
//
// Numbers of 64 bits are numbers or texts, bytes are hexadecimal, and NBT has
// lost the names of its types.

import process from "node:process";
import { createInterface } from "node:readline";
import minecraftData from "minecraft-data";
import protocol from "minecraft-protocol";
import nbt from "prismarine-nbt";
import { emit } from "./common.mjs";

/** Makers of serializers and deserializers by what they are for. */
const codecs = new Map();

function codec(job) {
  const key = `${job.version} ${job.state} ${job.to}`;
  if (!codecs.has(key)) {
    const { version, state } = job;
    const isToServer = job.to === "server";
    // `isServer` says who reads, or who writes.
    codecs.set(key, {
      reader: protocol.createDeserializer({ version, state, isServer: isToServer, noErrorLogging: true }),
      writer: protocol.createSerializer({ version, state, isServer: !isToServer }),
    });
  }
  return codecs.get(key);
}

/** What JSON can carry of a value of the library. */
function shown(value) {
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) {
    // 64 bits as two numbers of 32.
    if (value.constructor !== Array) return String(value.valueOf());
    return value.map(shown);
  }
  if (value === null || typeof value !== "object") return value;
  if (typeof value.type === "string" && "value" in value) return shown(nbt.simplify(value));
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shown(inner)]));
}

/** The join game of a vanilla server where the library has one, and all that older ones and a respawn need. */
function worldParams(version) {
  const login = minecraftData(version).loginPacket ?? {};
  const world = {
    dimension: -1,
    hashedSeed: [1, 2],
    gamemode: 1,
    previousGamemode: 2,
    isDebug: false,
    isFlat: true,
    death: undefined,
    portalCooldown: 7,
    seaLevel: 63,
  };
  return {
    entityId: 70_000,
    gameMode: 1,
    difficulty: 2,
    maxPlayers: 99,
    levelType: "flat",
    viewDistance: 12,
    reducedDebugInfo: true,
    enableRespawnScreen: true,
    ...world,
    ...login,
    dimension: login.worldType ?? login.dimension ?? world.dimension,
    worldState: { ...world, name: "minecraft:overworld", ...login.worldState },
    copyMetadata: 1,
  };
}

function answer(job) {
  const { reader, writer } = codec(job);
  if (job.make) {
    const packet = writer.createPacketBuffer({ name: job.make, params: worldParams(job.version) });
    const read = reader.parsePacketBuffer(packet);
    return { name: job.make, params: shown(read.data.params), packet: packet.toString("hex") };
  }
  const bytes = Buffer.from(job.packet, "hex");
  const read = reader.parsePacketBuffer(bytes);
  if (read.metadata.size !== bytes.length) {
    throw new Error(`${read.metadata.size} of ${bytes.length} bytes are read`);
  }
  const again = writer.createPacketBuffer(read.data);
  return { name: read.data.name, params: shown(read.data.params), packet: again.toString("hex") };
}

for await (const line of createInterface({ input: process.stdin })) {
  for (const job of JSON.parse(line).jobs) {
    try {
      emit("packet", { id: job.id, ...answer(job) });
    } catch (error) {
      emit("packet", { id: job.id, error: String(error?.message ?? error) });
    }
  }
  emit("summary");
}
