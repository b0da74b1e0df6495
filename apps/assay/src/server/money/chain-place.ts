import { readFile } from "node:fs/promises";
import { AssayError, parseJson } from "@assay/core";
import { canonicalAddresses, developmentProfiles } from "@assay/contracts";
import type { Deployments } from "@assay/contracts";
import type { FileKeystore } from "@assay/driver-crypto";
import { openEmbeddedChain } from "@assay/driver-chain";
import type { ChainNodeEvent, ChainProfile, Funding } from "@assay/driver-chain";
import type { Address, Hex } from "@assay/x402";
import { z } from "zod";
import { accountsIn, developmentAccounts } from "./keys.ts";
import type { ChainAccounts } from "./keys.ts";

/** Which chain payments are settled on. */
export type ChainConfig =
  | { readonly kind: "embedded"; readonly profile: ChainProfile; readonly file?: string }
  | {
      readonly kind: "rpc";
      readonly url: string;
      readonly file: string;
      readonly keys: string;
      readonly payTo: Address;
    };

/** A chain that is there, with what this installation has on it. */
export type ChainPlace = {
  readonly rpcUrl: string;
  readonly deployments: Deployments;
  readonly accounts: ChainAccounts;
  /** Signs claims and refunds of channels: of whoever settles, which need not be this process. */
  readonly receiverAuthorizer: Address;
  readonly payTo: Address;
  readonly development: boolean;
  /** Of a chain of our own alone. */
  readonly faucet?: {
    readonly fund: (address: Address, funding: Funding) => Promise<void>;
    readonly reset: () => Promise<void>;
  };
  readonly close: () => Promise<void>;
};

const MAX_FILE_BYTES = 256 * 1024;

export const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, "must be 0x and 40 hexadecimal digits")
  .transform((text) => text.toLowerCase() as Address);
export const token = z.strictObject({
  symbol: z.string().regex(/^[A-Z][A-Za-z0-9]{0,15}$/, "must be a symbol such as USDC"),
  address,
  decimals: z.int().min(0).max(36),
  name: z.string().min(1).max(64),
  version: z.string().min(1).max(16),
  eip3009: z.boolean(),
  eip2612: z.boolean(),
});
const tokens = z.array(token).max(64);
/** More tokens of an embedded chain. */
const moreTokens = z.strictObject({ tokens });
const hash = z
  .string()
  .regex(/^0x[0-9a-fA-F]{64}$/, "must be 0x and 64 hexadecimal digits")
  .transform((text) => text.toLowerCase() as Hex);
/** What is deployed on another chain: ours by their addresses, the canonical ones where they are everywhere. */
const deployed = z.strictObject({
  chainId: z.int().min(1),
  paymentBatcher: address,
  receiptAnchor: address,
  splitFactory: address,
  tokens: tokens.min(1),
  /** Schemes that are offered; all of them when absent. */
  schemes: z
    .array(z.enum(["exact", "upto", "batch-settlement"]))
    .min(1)
    .max(3)
    .optional(),
  /** Hashes of code at canonical addresses that the operator vouches for: what `chain check` takes for right. */
  acceptedCode: z.array(hash).max(16).optional(),
  /** Whose accounts it was deployed for: keys of others are refused. */
  accounts: z
    .strictObject({ settler: address, submitter: address, authorizer: address, facilitator: address })
    .optional(),
});

/** What the file of another chain says. */
export type ChainFile = {
  readonly deployments: Deployments;
  readonly accounts: Readonly<Record<keyof ChainAccounts, Address>> | undefined;
  readonly acceptedCode: readonly Hex[];
};

/** Tokens that a chain will take, before it is open: their symbols and decimals. Throws `chain_file_invalid`. */
export async function knownTokens(
  config: ChainConfig,
): Promise<readonly { readonly symbol: string; readonly decimals: number }[]> {
  if (config.kind === "rpc") return (await readDocument(config.file, deployed)).tokens;
  const more = config.file === undefined ? [] : (await readDocument(config.file, moreTokens)).tokens;
  return [developmentProfiles[config.profile].usdc, { symbol: "ASY", decimals: 18 }, ...more];
}

/** The chain of `config` by its number, before it is open. Throws `chain_file_invalid`. */
export async function configuredChain(config: ChainConfig): Promise<Pick<Deployments, "network" | "chainId">> {
  const chainId = config.kind === "embedded" ? config.profile : (await readDocument(config.file, deployed)).chainId;
  return { chainId, network: `eip155:${chainId}` };
}

/** Opens the chain of `config`: starts the embedded one under `directory`, or reads what is known of the other. */
export async function openChainPlace(
  config: ChainConfig,
  modules: {
    readonly directory: string;
    readonly keystore: FileKeystore;
    readonly payTo: Address | undefined;
    readonly onEvent: (event: ChainNodeEvent) => void;
  },
): Promise<ChainPlace> {
  return config.kind === "embedded" ? embedded(config, modules) : elsewhere(config);
}

async function embedded(
  { profile, file }: Extract<ChainConfig, { kind: "embedded" }>,
  { directory, keystore, payTo, onEvent }: Parameters<typeof openChainPlace>[1],
): Promise<ChainPlace> {
  const more = file === undefined ? [] : (await readDocument(file, moreTokens)).tokens;
  const { deployer, treasury, ...accounts } = developmentAccounts(keystore);
  const chain = await openEmbeddedChain({
    directory,
    profile,
    keys: {
      deployer: deployer.address,
      operators: [accounts.settler.address],
      submitter: accounts.submitter.address,
    },
    onEvent,
  });
  return {
    rpcUrl: chain.rpcUrl,
    deployments: { ...chain.deployments, tokens: [...chain.deployments.tokens, ...more] },
    accounts,
    receiverAuthorizer: accounts.authorizer.address,
    payTo: payTo ?? treasury.address,
    development: true,
    faucet: { fund: chain.fund, reset: chain.reset },
    close: chain.close,
  };
}

async function elsewhere(config: Extract<ChainConfig, { kind: "rpc" }>): Promise<ChainPlace> {
  const { deployments, accounts: expected } = await readChainFile(config.file);
  const accounts = await accountsIn(config.keys);
  requireAccounts(expected, accounts);
  return {
    rpcUrl: config.url,
    deployments,
    accounts,
    receiverAuthorizer: accounts.authorizer.address,
    payTo: config.payTo,
    development: false,
    close: () => Promise.resolve(),
  };
}

/** What is deployed on a chain, from its file. Throws `chain_file_invalid`. */
export async function readDeployments(file: string): Promise<Deployments> {
  return (await readChainFile(file)).deployments;
}

/** All that the file of a chain says. Throws `chain_file_invalid`. */
export async function readChainFile(file: string): Promise<ChainFile> {
  const { chainId, schemes, accounts, acceptedCode, ...contracts } = await readDocument(file, deployed);
  return {
    deployments: {
      ...canonicalAddresses,
      chainId,
      network: `eip155:${chainId}`,
      ...contracts,
      ...(schemes === undefined ? {} : { schemes }),
    },
    accounts,
    acceptedCode: acceptedCode ?? [],
  };
}

/** The text of a chain's file, which {@link readChainFile} reads. */
export function chainFileText({ deployments, accounts, acceptedCode }: ChainFile): string {
  const { chainId, paymentBatcher, receiptAnchor, splitFactory, tokens: taken, schemes } = deployments;
  const document = {
    chainId,
    paymentBatcher,
    receiptAnchor,
    splitFactory,
    tokens: taken,
    ...(schemes ? { schemes } : {}),
    ...(acceptedCode.length > 0 ? { acceptedCode } : {}),
    ...(accounts ? { accounts } : {}),
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** Throws `chain_keys_invalid` for keys of other accounts than those that the contracts know. */
export function requireAccounts(expected: ChainFile["accounts"], accounts: ChainAccounts): void {
  if (expected === undefined) return;
  const wrong = (Object.keys(expected) as (keyof ChainAccounts)[]).filter(
    (role) => expected[role] !== accounts[role].address,
  );
  if (wrong.length === 0) return;
  throw new AssayError("chain_keys_invalid", `The chain key of the ${wrong.join(" and the ")} is another account's.`, {
    hints: wrong.map((role) => `${role}.hex is the key of ${accounts[role].address}, not of ${expected[role]}.`),
  });
}

async function readDocument<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema>> {
  let value: unknown;
  try {
    value = parseJson(new Uint8Array(await readFile(path)), { maxBytes: MAX_FILE_BYTES, maxDepth: 4 });
  } catch (cause) {
    throw new AssayError("chain_file_invalid", "The chain's file cannot be read as JSON.", {
      hints: [`It is ${path}.`],
      cause,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AssayError("chain_file_invalid", "The chain's file is not what it has to be.", {
    hints: parsed.error.issues.slice(0, 8).map(({ path: at, message }) => `${at.join(".") || "It"}: ${message}.`),
  });
}
