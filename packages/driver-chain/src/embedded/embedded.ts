import { mkdir, realpath, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AssayError } from "@assay/core";
import type { Deployments } from "@assay/contracts";
import type { Address, Hex, Network } from "@assay/x402";
import { findChainBinary } from "./binary.ts";
import { fundAccount } from "./faucet.ts";
import type { Funding } from "./faucet.ts";
import { writeWhole } from "./files.ts";
import { startKeeper } from "./keeper.ts";
import type { Keeper } from "./keeper.ts";
import { lockChainDirectory } from "./lock.ts";
import { claimLineage, lineageOf, readRunFile, writeRunFile } from "./lineage.ts";
import { adoptedNode, answersAs, freePort, isFree, nodeTransport, portTaken, startNode, stopNode } from "./node.ts";
import type { ChainNode } from "./node.ts";
import { placeContracts } from "./place.ts";
import type { DeploymentKeys } from "./place.ts";
import { chainProcesses, isChainProcess } from "./process.ts";
import { forgetState, saveState, stateFiles, stateToLoad } from "./state.ts";
import { ORPHAN_GRACE_S, startWatchdog } from "./watchdog.ts";
import type { Watchdog } from "./watchdog.ts";
import type { Transport } from "../rpc/transport.ts";

/** Chains that an embedded one can be the likeness of: the usual development id, Base Sepolia and Base. */
export type ChainProfile = 31337 | 84532 | 8453;

const DEFAULT_START_TIMEOUT_MS = 30_000;
/** Restarts within a window before the chain is left down: one that dies at once would only burn the machine. */
export const MAX_RESTARTS = 5;
const RESTART_WINDOW_MS = 60_000;
/** A node writes its state when it is asked to end, which takes a second for a large one. */
const STOP_GRACE_MS = 15_000;
/** Ports tried when the one that was free is taken before the node has it. */
const PORT_TRIES = 5;

export type ChainNodeEvent =
  | { readonly type: "chain_died"; readonly pid: number }
  | { readonly type: "chain_restarted"; readonly pid: number }
  | { readonly type: "chain_given_up"; readonly cause: unknown }
  /** The state could not be saved, or the heartbeat not be mined; tried again a second later. */
  | { readonly type: "chain_keeping_failed"; readonly cause: unknown };

export type EmbeddedChainOptions = {
  /** A folder for the chain alone; made when missing. */
  readonly directory: string;
  readonly profile: ChainProfile;
  /** Fixed port; the one of the last start when absent, else any. */
  readonly port?: number;
  /** Accounts of this installation: they are given ether, roles and a bond. */
  readonly keys: DeploymentKeys;
  readonly startTimeoutMs?: number;
  /** Path of the node's binary, instead of the npm package's. */
  readonly binary?: string;
  /** Seconds that the node outlives a process that was killed. */
  readonly orphanGraceS?: number;
  readonly onEvent?: (event: ChainNodeEvent) => void;
};

export type EmbeddedChainStatus = {
  readonly running: boolean;
  readonly pid: number;
  readonly rpcUrl: string;
  readonly chainId: number;
  readonly lineage: Hex;
  readonly blockNumber: number | undefined;
  /** Time of the newest block, Unix seconds. */
  readonly timestampS: number | undefined;
  readonly savedBlock: number | undefined;
  readonly stateBytes: number | undefined;
  readonly restarts: number;
  readonly adopted: boolean;
};

export type EmbeddedChain = {
  readonly rpcUrl: string;
  readonly network: Network;
  readonly chainId: ChainProfile;
  readonly development: true;
  readonly deployments: Deployments;
  /** Names this chain from its first block to its {@link EmbeddedChain.reset}: transactions of another mean nothing here. */
  readonly lineage: () => Hex;
  /** Whether the node was found running, left by a process that was killed. */
  readonly adopted: boolean;
  /** Gives an account ether or tokens out of nothing (ASY out of the deployer's). */
  readonly fund: (address: Address, funding: Funding) => Promise<void>;
  readonly status: () => Promise<EmbeddedChainStatus>;
  /** Begins a new chain at the same address, with the same contracts and nothing else of the old one. */
  readonly reset: () => Promise<void>;
  /** Ends the node, which writes its state first, and releases the directory. Idempotent. */
  readonly close: () => Promise<void>;
};

/**
 * A development chain as a child of this process, on 127.0.0.1 alone, with all contracts in place. Ready when this resolves.
 * When the node dies it is started again, at most {@link MAX_RESTARTS} times a minute; what it did since its last saved
 * second is lost then, as in a reorganisation.
 *
 * When the process of an earlier start was killed, its node lives on for {@link ORPHAN_GRACE_S} seconds and is taken over
 * by a start within them, if it works in this directory and knows this chain's lineage. After that time it writes its state
 * and ends.
 *
 * Throws `chain_binary_missing`, `chain_directory_locked`, `chain_start_failed`, `chain_port_taken`, `chain_profile_changed`
 * and `chain_deployment_failed`.
 */
export async function openEmbeddedChain(options: EmbeddedChainOptions): Promise<EmbeddedChain> {
  const binary = options.binary ?? findChainBinary();
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const directory = await realpath(options.directory);
  const unlock = await lockChainDirectory(directory);
  try {
    return await open({ ...options, binary, directory }, unlock);
  } catch (error) {
    await unlock();
    throw error;
  }
}

async function open(
  options: EmbeddedChainOptions & { readonly binary: string },
  unlock: () => Promise<void>,
): Promise<EmbeddedChain> {
  const { directory, profile, keys } = options;
  const files = stateFiles(directory);
  const timeoutMs = options.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS;
  const known = await readRunFile(directory);
  if (known !== undefined && known.chainId !== profile)
    throw new AssayError(
      "chain_profile_changed",
      `The directory holds a chain of id ${known.chainId}, not ${profile}.`,
      {
        hints: [`Give the chain of id ${profile} a directory of its own, or reset this one with its own id.`],
      },
    );

  let aborter = new AbortController();
  let lineage: Hex = "0x";
  let watchdog: Watchdog | undefined;
  let restarts = 0;

  async function start(port: number | undefined): Promise<ChainNode> {
    const load = await stateToLoad(files);
    for (let tries = 1; ; tries++) {
      if (options.port !== undefined && !(await isFree(options.port))) throw portTaken(options.port);
      const chosen = options.port ?? (port !== undefined && (await isFree(port)) ? port : await freePort());
      try {
        return await startNode({
          binary: options.binary,
          directory,
          chainId: profile,
          port: chosen,
          load,
          dump: files.left,
          timeoutMs,
          signal: aborter.signal,
        });
      } catch (error) {
        const taken = error instanceof AssayError && error.code === "chain_port_taken";
        if (!taken || options.port !== undefined || tries >= PORT_TRIES) throw error;
      }
    }
  }

  /** Puts everything in place that a chain of ours has; what is there already is left as it is. */
  async function prepare(node: ChainNode): Promise<Deployments> {
    // First, so that a process that is killed in the midst of this leaves no node for ever, and one that took over a node
    // does not see it ended by the watchdog of the process before.
    await watchdog?.dismiss();
    watchdog = await startWatchdog(directory, node.pid, options.orphanGraceS ?? ORPHAN_GRACE_S);
    const rpc = nodeTransport(node.port);
    lineage = await claimLineage(rpc);
    const placed = await placeContracts(rpc, profile, keys);
    await saveState(files, await rpc.request("anvil_dumpState", []));
    await writeRunFile(directory, { pid: node.pid, port: node.port, chainId: profile, lineage });
    await writeWhole(join(directory, "deployments.json"), `${JSON.stringify(placed, undefined, 2)}\n`);
    return placed;
  }

  async function abandon(node: ChainNode): Promise<void> {
    await stopNode(node, STOP_GRACE_MS);
    await watchdog?.dismiss();
    watchdog = undefined;
  }

  async function startPrepared(port: number | undefined): Promise<{ node: ChainNode; deployments: Deployments }> {
    const node = await start(port);
    try {
      return { node, deployments: await prepare(node) };
    } catch (error) {
      await abandon(node);
      throw error;
    }
  }

  /** Takes over a node; undefined when it ends meanwhile: its watchdog may have been about to end it. */
  async function adopt(found: ChainNode): Promise<{ node: ChainNode; deployments: Deployments } | undefined> {
    try {
      return { node: found, deployments: await prepare(found) };
    } catch (error) {
      await abandon(found);
      if (error instanceof AssayError && error.code === "chain_unavailable") return undefined;
      throw error;
    }
  }

  const found = await findRunning(directory, options, known);
  const first = (found && (await adopt(found))) ?? (await startPrepared(known?.port));
  const deployments = first.deployments;
  let node: ChainNode | undefined = first.node;
  let last: ChainNode = first.node;
  let rpc: Transport = nodeTransport(first.node.port);
  let keeper = keep();

  function keep(): Keeper {
    return startKeeper(
      () => rpc,
      (dumped) => saveState(files, dumped),
      (cause) => options.onEvent?.({ type: "chain_keeping_failed", cause }),
    );
  }

  function take(fresh: ChainNode): void {
    node = fresh;
    last = fresh;
    rpc = nodeTransport(fresh.port);
  }

  const recent: number[] = [];
  async function keepAlive(): Promise<void> {
    while (node !== undefined && !aborter.signal.aborted) {
      await node.ended;
      if (aborter.signal.aborted) return;
      const { pid, port } = node;
      node = undefined;
      await keeper.stop();
      options.onEvent?.({ type: "chain_died", pid });
      const now = Date.now();
      while (recent[0] !== undefined && recent[0] < now - RESTART_WINDOW_MS) recent.shift();
      if (recent.length >= MAX_RESTARTS) {
        options.onEvent?.({ type: "chain_given_up", cause: undefined });
        return;
      }
      // Doubling from nothing: a single crash is repaired at once.
      if (recent.length > 0) await delay(50 * 2 ** recent.length, undefined, { signal: aborter.signal });
      recent.push(now);
      restarts++;
      // The address stays: everybody has it by now.
      take((await startPrepared(port)).node);
      keeper = keep();
      options.onEvent?.({ type: "chain_restarted", pid: last.pid });
    }
  }
  function watch(): Promise<void> {
    return keepAlive().catch((cause: unknown) => {
      if (!aborter.signal.aborted) options.onEvent?.({ type: "chain_given_up", cause });
    });
  }
  let watching = watch();

  async function halt(): Promise<void> {
    aborter.abort();
    await keeper.stop();
    if (node !== undefined) await stopNode(node, STOP_GRACE_MS);
    await watching;
    // A restart that succeeded while it was being aborted.
    if (node !== undefined) await stopNode(node, STOP_GRACE_MS);
    node = undefined;
    await watchdog?.dismiss();
    watchdog = undefined;
  }

  let closing: Promise<void> | undefined;
  // Resets, and the funding that must not fall into one, follow one another.
  let turn: Promise<unknown> = Promise.resolve();
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(() => {
      if (closing !== undefined)
        throw new AssayError("chain_closed", "The embedded chain was closed.", { hints: ["Open it again."] });
      return work();
    });
    turn = mine.catch(() => undefined);
    return mine;
  }

  return {
    get rpcUrl() {
      return `http://127.0.0.1:${last.port}`;
    },
    network: `eip155:${profile}`,
    chainId: profile,
    development: true,
    deployments,
    lineage: () => lineage,
    adopted: first.node === found,
    fund: (address, funding) =>
      inTurn(async () => {
        await fundAccount(rpc, deployments, keys.deployer, address, funding);
        keeper.touch();
      }),
    async status() {
      const block = await blockOf(rpc).catch(() => undefined);
      return {
        running: node !== undefined && block !== undefined,
        pid: last.pid,
        rpcUrl: `http://127.0.0.1:${last.port}`,
        chainId: profile,
        lineage,
        blockNumber: block?.number,
        timestampS: block?.timestampS,
        ...keeper.facts(),
        restarts,
        adopted: last.adopted,
      };
    },
    reset: () =>
      inTurn(async () => {
        await halt();
        await forgetState(files);
        await rm(join(directory, "deployments.json"), { force: true });
        aborter = new AbortController();
        take((await startPrepared(last.port)).node);
        keeper = keep();
        watching = watch();
      }),
    close() {
      closing ??= (async () => {
        await turn;
        try {
          await halt();
        } finally {
          await unlock();
        }
      })();
      return closing;
    },
  };
}

/**
 * The node that an earlier process left running here: of this directory, with the port and lineage of the run file. One
 * that cannot prove it is ended, because two nodes must not write one state.
 */
async function findRunning(
  directory: string,
  options: EmbeddedChainOptions,
  known: Awaited<ReturnType<typeof readRunFile>>,
): Promise<ChainNode | undefined> {
  let adopted: ChainNode | undefined;
  if (
    known !== undefined &&
    (options.port === undefined || options.port === known.port) &&
    (await isChainProcess(known.pid, directory)) &&
    (await answersAs(known.port)) === options.profile &&
    (await lineageOf(nodeTransport(known.port)).catch(() => undefined)) === known.lineage
  )
    adopted = adoptedNode(known.pid, known.port, directory);
  for (const pid of await chainProcesses(directory))
    if (pid !== adopted?.pid) await stopNode(adoptedNode(pid, 0, directory), STOP_GRACE_MS);
  return adopted;
}

async function blockOf(rpc: Transport): Promise<{ number: number; timestampS: number }> {
  const block = (await rpc.request("eth_getBlockByNumber", ["latest", false])) as { number: string; timestamp: string };
  return { number: Number(block.number), timestampS: Number(block.timestamp) };
}
