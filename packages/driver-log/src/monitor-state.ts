import { bytesToBase64, base64ToBytes } from "@assay/core";
import type { CryptoSuite } from "@assay/core";
import { createCompactTree, HASH_BYTES, parseDecimal, subtreesOf, TILE_WIDTH } from "@assay/tlog";
import { corrupt } from "./errors.ts";
import { nodeFileOps, replaceDurable } from "./file-ops.ts";
import type { FileOps } from "./file-ops.ts";

/** What a monitor remembers: the last checkpoint it accepted, and enough of the tree to go on from there. */
export type MonitorState = {
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** The right edge of the tree, as the compact tree takes it. */
  readonly edge: readonly Uint8Array[];
  /** Leaf hashes of the last, partial bundle, which is fetched again when it has grown. */
  readonly tail: readonly Uint8Array[];
};

const HEADER = "assay-monitor/1";

/** Reads a monitor's state file. Throws `log_corrupt` when its parts do not fit together. */
export async function loadMonitorState(
  directory: string,
  name: string,
  suite: CryptoSuite,
  files: FileOps = nodeFileOps,
): Promise<MonitorState | undefined> {
  const bytes = await files.readFile(`${directory}/${name}`);
  if (!bytes) return undefined;
  const lines = Buffer.from(bytes).toString("utf8").split("\n");
  const [header, origin = "", sizeLine = "", rootLine = "", ...rest] = lines;
  const size = parseDecimal(sizeLine);
  if (header !== HEADER || size === undefined || rest.pop() !== "") throw refused();
  const hashes = [rootLine, ...rest].map((line) => {
    const hash = base64ToBytes(line);
    if (hash.length !== HASH_BYTES) throw refused();
    return hash;
  });
  const [root = new Uint8Array(), ...others] = hashes;
  const edgeLength = subtreesOf(0, size).length;
  const [edge, tail] = [others.slice(0, edgeLength), others.slice(edgeLength)];
  if (tail.length !== size % TILE_WIDTH) throw refused();
  if (!Buffer.from(createCompactTree(suite, size, edge).root()).equals(root)) throw refused();
  return { origin, size, root, edge, tail };
}

/** Replaces the state file durably. */
export async function saveMonitorState(
  directory: string,
  name: string,
  state: MonitorState,
  files: FileOps = nodeFileOps,
): Promise<void> {
  const hashes = [state.root, ...state.edge, ...state.tail].map(bytesToBase64);
  const lines = [HEADER, state.origin, String(state.size), ...hashes];
  await replaceDurable(files, directory, name, Buffer.from(`${lines.join("\n")}\n`));
}

function refused(): ReturnType<typeof corrupt> {
  return corrupt("The monitor's state file is damaged.", ["Without it, a fork before now cannot be noticed any more."]);
}
