import { AssayError } from "@assay/core";
import { z } from "zod";

/** Text that shows as dots wherever it is printed; only {@link reveal} gives it back. */
class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return "••••";
  }
  toJSON(): string {
    return "••••";
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "••••";
  }
}

const port = z
  .string()
  .regex(/^\d{1,5}$/, "must be a number from 0 to 65535")
  .transform(Number)
  .refine((value) => value <= 65_535, "must be a number from 0 to 65535");

const databaseUrl = z
  .string()
  .refine((value) => /^postgres(?:ql)?:\/\//.test(value) && URL.canParse(value), "must be a postgres:// address")
  .transform((value) => new Secret(value));

/** `vkey@url` of each witness, separated by spaces: vkeys hold neither, and the last `@` begins the address. */
const witnesses = z
  .string()
  .max(64 * 1024)
  .transform((text) =>
    text
      .split(" ")
      .filter((part) => part !== "")
      .map((part) => {
        const at = part.lastIndexOf("@");
        return { vkey: part.slice(0, at), url: part.slice(at + 1).replace(/\/$/, "") };
      }),
  )
  .refine(
    (list) =>
      list.every(({ vkey, url }) => vkey.split("+").length >= 3 && /^https?:\/\//.test(url) && URL.canParse(url)),
    "must be a list of verifier-key@address, separated by spaces",
  );

const share = z
  .string()
  .regex(/^(?:0(?:\.\d{1,6})?|1(?:\.0{1,6})?)$/, "must be a share from 0 to 1, for example 0.02")
  .transform(Number);

const EMBEDDED_CHAINS: ReadonlySet<string> = new Set(["31337", "84532", "8453"]);

/** The embedded chain under one of the numbers it can have, none, or the RPC address of another chain. */
const chain = z
  .string()
  .max(2048)
  .refine(
    (value) => value === "off" || EMBEDDED_CHAINS.has(value) || (/^https?:\/\//.test(value) && URL.canParse(value)),
    "must be off, 31337, 84532, 8453 or an http or https address",
  )
  .transform((value) => new Secret(value));
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, "must be an address: 0x and 40 hexadecimal digits")
  .transform((value) => value.toLowerCase() as `0x${string}`);

const LOG_LEVELS = ["silent", "error", "warn", "info", "debug"] as const;

type Variable = { readonly schema: z.ZodType; readonly example: string; readonly says: readonly string[] };

/** Every variable the program reads, in the order of `.env.example`. One that is empty counts as not set. */
const VARIABLES = {
  ASSAY_HOME: {
    schema: z
      .string()
      .max(4096)
      .refine((value) => !value.includes("\0"), "must be a path")
      .optional(),
    example: "~/.assay",
    says: ["Folder with keys, log, blobs and receipts. Keep it: the keys in it are who you are."],
  },
  ASSAY_URL: {
    schema: z
      .string()
      .refine((value) => /^https?:\/\//.test(value) && URL.canParse(value), "must be an http or https address")
      .optional(),
    example: "https://assay.example",
    says: ["Gateway that commands ask. Not set, they ask the one on this machine, or start one for themselves."],
  },
  ASSAY_HOST: {
    schema: z.string().min(1).max(255).default("127.0.0.1"),
    example: "127.0.0.1",
    says: ["Address that `assay start` listens at. The gateway speaks plain HTTP: put TLS before any other."],
  },
  ASSAY_PORT: { schema: port.default(8402), example: "8402", says: ["Port that `assay start` listens at."] },
  DATABASE_URL: {
    schema: databaseUrl.optional(),
    example: "postgres://assay:password@localhost:5432/assay",
    says: ["PostgreSQL of your own. Not set, an embedded one runs as a child process."],
  },
  ASSAY_WITNESSES: {
    schema: witnesses.optional(),
    example: "witness.example+d1e2f3a4+BBqb8...@https://witness.example",
    says: [
      "Witnesses that cosign the log's checkpoints, as verifier-key@address, separated by spaces.",
      "`assay log witness` is one. Receipts then wait for their cosignatures as long as for a checkpoint.",
    ],
  },
  ASSAY_AUDIT_SHARE: {
    schema: share.optional(),
    example: "0.02",
    says: [
      "Share of answers without other assurance that another node executes again, 0 to 1. Each audit leaves a",
      "supplement to the receipt. Nothing is audited while no other node is there.",
    ],
  },
  ASSAY_CHAIN: {
    schema: chain.optional(),
    example: "31337",
    says: [
      "Chain that payments are settled on: 31337 for the embedded one (the default), 84532 or 8453 for the embedded",
      "one under the number of Base Sepolia or Base, off for none, or the RPC address of a chain.",
    ],
  },
  ASSAY_CHAIN_FILE: {
    schema: z.string().max(4096).optional(),
    example: "/etc/assay/base.json",
    says: ["With an RPC address: what is deployed there, and which tokens are taken. `assay chain deploy` writes it."],
  },
  ASSAY_CHAIN_KEYS: {
    schema: z.string().max(4096).optional(),
    example: "/etc/assay/chain-keys",
    says: [
      "With an RPC address: folder with settler.hex, submitter.hex, authorizer.hex and facilitator.hex, mode 0600, each",
      "one private key in hexadecimal digits: `assay chain keys` makes them. The embedded chain has its own.",
    ],
  },
  ASSAY_PAY_TO: {
    schema: address.optional(),
    example: "0x0000000000000000000000000000000000000001",
    says: ["Address that is paid for what has no payees of its own. Required with an RPC address."],
  },
  ASSAY_FACILITATOR_URL: {
    schema: z
      .string()
      .max(2048)
      .refine((value) => /^https?:\/\//.test(value) && URL.canParse(value), "must be an http or https address")
      .optional(),
    example: "https://facilitator.example",
    says: [
      "x402 facilitator of somebody else that settles payments in this gateway's place. What it says is checked on the",
      "chain. Not set, this gateway settles them itself, many in one transaction.",
    ],
  },
  ASSAY_FACILITATOR_TOKEN: {
    schema: z
      .string()
      .max(4096)
      .regex(/^[\x21-\x7e]+$/, "must be a token: visible characters without spaces")
      .transform((value) => new Secret(value))
      .optional(),
    example: "a-token-of-that-facilitator",
    says: ["Bearer token for that facilitator."],
  },
  ASSAY_WALLET_PASSPHRASE: {
    schema: z
      .string()
      .max(1024)
      .transform((value) => new Secret(value))
      .optional(),
    example: "correct horse battery staple",
    says: [
      "Passphrase of the wallet that commands pay with, where nobody sits at a terminal to type it. Not for the server,",
      "which has no use for it.",
    ],
  },
  ASSAY_LLAMA_DIRECTORY: {
    schema: z.string().max(4096).optional(),
    example: "/opt/assay-llama",
    says: [
      "Folder where node-llama-cpp is installed, for GGUF models (`assay upstream add gguf:FILE`). Not set, it is",
      "looked for beside this program.",
    ],
  },
  ASSAY_LOG_LEVEL: {
    schema: z.enum(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(", ")}`).optional(),
    example: "info",
    says: [
      `How much the server writes to standard error: ${LOG_LEVELS.join(", ")}.`,
      "Not set: warn on a terminal, else info.",
    ],
  },
} as const satisfies Readonly<Record<string, Variable>>;

/** What the environment says, checked. */
export type Config = {
  readonly home: string | undefined;
  readonly url: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly databaseUrl: Secret | undefined;
  readonly witnesses: readonly { readonly vkey: string; readonly url: string }[];
  readonly auditShare: number | undefined;
  readonly chain: Secret | undefined;
  readonly chainFile: string | undefined;
  readonly chainKeys: string | undefined;
  readonly payTo: `0x${string}` | undefined;
  readonly facilitatorUrl: string | undefined;
  readonly facilitatorToken: Secret | undefined;
  readonly llamaDirectory: string | undefined;
  readonly logLevel: (typeof LOG_LEVELS)[number] | undefined;
};

const configSchema = z.object({
  ASSAY_HOME: VARIABLES.ASSAY_HOME.schema,
  ASSAY_URL: VARIABLES.ASSAY_URL.schema,
  ASSAY_HOST: VARIABLES.ASSAY_HOST.schema,
  ASSAY_PORT: VARIABLES.ASSAY_PORT.schema,
  DATABASE_URL: VARIABLES.DATABASE_URL.schema,
  ASSAY_WITNESSES: VARIABLES.ASSAY_WITNESSES.schema,
  ASSAY_AUDIT_SHARE: VARIABLES.ASSAY_AUDIT_SHARE.schema,
  ASSAY_CHAIN: VARIABLES.ASSAY_CHAIN.schema,
  ASSAY_CHAIN_FILE: VARIABLES.ASSAY_CHAIN_FILE.schema,
  ASSAY_CHAIN_KEYS: VARIABLES.ASSAY_CHAIN_KEYS.schema,
  ASSAY_PAY_TO: VARIABLES.ASSAY_PAY_TO.schema,
  ASSAY_FACILITATOR_URL: VARIABLES.ASSAY_FACILITATOR_URL.schema,
  ASSAY_FACILITATOR_TOKEN: VARIABLES.ASSAY_FACILITATOR_TOKEN.schema,
  ASSAY_LLAMA_DIRECTORY: VARIABLES.ASSAY_LLAMA_DIRECTORY.schema,
  ASSAY_LOG_LEVEL: VARIABLES.ASSAY_LOG_LEVEL.schema,
});

/**
 * Reads the environment once. Throws `config_invalid` with one hint for every wrong variable, naming what it must be
 * and never what it was: a password in the wrong place stays out of logs.
 */
export function parseConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const given = Object.fromEntries(
    Object.keys(VARIABLES).flatMap((name) => {
      const value = environment[name];
      return value === undefined || value === "" ? [] : [[name, value]];
    }),
  );
  const parsed = configSchema.safeParse(given);
  if (!parsed.success) {
    const faults = parsed.error.issues.map(({ path, message }) => `${path.join(".")} ${message}.`);
    const count = new Set(parsed.error.issues.map(({ path }) => path.join("."))).size;
    const what = count === 1 ? "One environment variable is" : `${count} environment variables are`;
    throw new AssayError("config_invalid", `${what} wrong.`, {
      hints: [...faults, "See .env.example for all of them."],
    });
  }
  const { data } = parsed;
  return {
    home: data.ASSAY_HOME,
    url: data.ASSAY_URL,
    host: data.ASSAY_HOST,
    port: data.ASSAY_PORT,
    databaseUrl: data.DATABASE_URL,
    witnesses: data.ASSAY_WITNESSES ?? [],
    auditShare: data.ASSAY_AUDIT_SHARE,
    chain: data.ASSAY_CHAIN,
    chainFile: data.ASSAY_CHAIN_FILE,
    chainKeys: data.ASSAY_CHAIN_KEYS,
    payTo: data.ASSAY_PAY_TO,
    facilitatorUrl: data.ASSAY_FACILITATOR_URL,
    facilitatorToken: data.ASSAY_FACILITATOR_TOKEN,
    llamaDirectory: data.ASSAY_LLAMA_DIRECTORY,
    logLevel: data.ASSAY_LOG_LEVEL,
  };
}

/** The text of `.env.example`, which a test holds equal to the file. */
export function envExample(): string {
  const parts = Object.entries(VARIABLES).map(([name, { says, example }]) =>
    [...says.map((line) => `# ${line}`), `#${name}=${example}`].join("\n"),
  );
  return `# Every variable that the program reads. All are optional.\n\n${parts.join("\n\n")}\n`;
}
