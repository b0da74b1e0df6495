import { buildApplication, buildRouteMap } from "@stricli/core";
import type { Application } from "@stricli/core";
import { defineCommand } from "./command.ts";
import type { CliContext } from "./command.ts";
import type { GatewayFlags } from "./gateway.ts";
import { identify, one, perhaps, retention, save, text, trust, url } from "./flags.ts";
import { helpIntegration } from "./help.ts";
import { batch, chain, modelPrice, pay, price, spending, wallet } from "./money-commands.ts";
import { node } from "./node-commands.ts";
import * as parse from "./parse-flags.ts";
import type { Style } from "./style.ts";
import { chat, proxy, route, upstream } from "./text-commands.ts";
import { cliText } from "./text.ts";
import type { CheckpointFlags, MonitorFlags, WitnessFlags } from "./commands/log.ts";
import type { ImportFlags } from "./commands/import.ts";
import type { PullFlags, PushFlags } from "./commands/model.ts";
import type { ExportFlags, ListFlags, OpenFlags } from "./commands/receipt.ts";
import type { RunFlags } from "./commands/run.ts";
import type { StartFlags } from "./commands/start.ts";
import type { VerifyFlags } from "./commands/verify.ts";

/** Of a command that takes only the flags that all take. */
type NoFlags = Readonly<Record<string, unknown>>;

const start = defineCommand<StartFlags>({
  brief: "Serve models from this machine",
  examples: ["start", "start --port 9000"],
  json: "{url, home, version, network, demo: {receiptId, path, status} or null}, then it keeps running",
  flags: {
    host: {
      kind: "parsed",
      parse: String,
      optional: true,
      placeholder: "address",
      brief: "Address to listen at (127.0.0.1)",
    },
    port: {
      kind: "parsed",
      parse: parse.port,
      optional: true,
      placeholder: "number",
      brief: "Port to listen at (8402)",
    },
    databaseUrl: {
      kind: "parsed",
      parse: String,
      optional: true,
      placeholder: "url",
      brief: "PostgreSQL of your own instead of the embedded one",
    },
    exposed: {
      kind: "boolean",
      default: false,
      withNegated: false,
      brief: "Listen where other machines can reach it, without TLS",
    },
    tlsCert: text("file", "Certificate chain (PEM), to speak HTTPS"),
    tlsKey: text("file", "The certificate's key (PEM)"),
    jurisdiction: text("country", "Where this machine is, as you declare it: two letters"),
    peer: text("url", "Be a second gateway, and write to the log of this one"),
    invite: text("code", "What lets a second gateway in (assay node invite)"),
  },
  load: async () => (await import("./commands/start.ts")).start,
});

const run = defineCommand<RunFlags, [string]>({
  brief: "Run a model once and keep its receipt",
  examples: ["run demo/digits --input image=@seven.png", "run acme/net --input x='[[1,2,3]]' --max-spend 0.01"],
  json: "{model, version, outputs, receiptId, executionDigest, logIndex, payment, path, verdict}",
  flags: {
    input: {
      kind: "parsed",
      parse: String,
      optional: true,
      variadic: true,
      placeholder: "name=value",
      brief: "JSON, @file (.png .wav .npy .json .bin), or @- for standard input",
    },
    output: {
      kind: "parsed",
      parse: String,
      optional: true,
      variadic: true,
      placeholder: "name",
      brief: "Output wanted",
    },
    profile: {
      kind: "enum",
      values: ["portable", "native"],
      default: "portable",
      brief: "Engine: portable repeats byte for byte anywhere, native is faster",
    },
    nonce: {
      kind: "parsed",
      parse: parse.nonce,
      optional: true,
      placeholder: "hex",
      brief: "8 to 64 bytes that the receipt must carry",
    },
    retention,
    identify,
    ...spending,
    ...save,
    ...trust,
    ...url,
  },
  aliases: { i: "input", o: "output" },
  positional: one("name", "Model: namespace/name or namespace/name@version"),
  load: async () => (await import("./commands/run.ts")).run,
});

const verify = defineCommand<VerifyFlags, [string]>({
  brief: "Check a receipt here, without a network",
  examples: ["verify answer.receipt", "verify answer.receipt --chain http://127.0.0.1:8545 --reexecute"],
  json: "{status, code, receiptId, executionDigest, checks, answers, proves, doesNotProve, residualTrust, trustFile}",
  flags: {
    ...trust,
    policy: {
      kind: "parsed",
      parse: String,
      optional: true,
      placeholder: "file",
      brief: "What to demand besides: modes, modelDigest, clientNonce, maxAgeMs, labels, require",
    },
    reexecute: {
      kind: "boolean",
      default: false,
      withNegated: false,
      brief: "Run the model again and compare",
    },
    model: {
      kind: "parsed",
      parse: String,
      optional: true,
      placeholder: "path",
      brief: "The model's file or folder (this home's copy)",
    },
    chain: text("url", "Ask this chain (JSON-RPC) whether payment and anchor are on it"),
    at: {
      kind: "parsed",
      parse: parse.time,
      optional: true,
      placeholder: "time",
      brief: "Judge as of this time (ISO 8601) instead of now",
    },
    facts: { kind: "boolean", default: false, withNegated: false, brief: "Show what every check compared" },
  },
  positional: one("file", "Receipt: a file, - for standard input, or an id kept here"),
  load: async () => (await import("./commands/verify.ts")).verify,
});

const version = one("name@version", "Model and version");

const model = buildRouteMap({
  docs: { brief: "Publish, list and fetch models" },
  routes: {
    push: defineCommand<PushFlags, [string]>({
      brief: "Release a model as the next version",
      examples: ["model push net.onnx --name acme/net", "model push ./net --name acme/net --private"],
      json: "{name, version, manifestDigest, logIndex, files, sizeBytes}",
      flags: {
        name: { kind: "parsed", parse: String, placeholder: "name", brief: "namespace/name to release under" },
        private: { kind: "boolean", default: false, withNegated: false, brief: "Only its owner may run and fetch it" },
        task: { kind: "parsed", parse: String, optional: true, placeholder: "task", brief: "What it does, for lists" },
        ...url,
      },
      positional: one("path", "An .onnx file, or a folder with one"),
      load: async () => (await import("./commands/model.ts")).push,
    }),
    import: defineCommand<ImportFlags, [string]>({
      brief: "Release a language model that lies in a folder or at a Hugging Face hub",
      examples: [
        "model import ./SmolLM2-135M-Instruct --name me/smol",
        "model import HuggingFaceTB/SmolLM2-135M-Instruct --name me/smol --file onnx/model.onnx",
      ],
      json: "{name, version, manifestDigest, logIndex, files, sizeBytes}",
      flags: {
        name: { kind: "parsed", parse: String, placeholder: "name", brief: "namespace/name to release under" },
        file: {
          kind: "parsed",
          parse: String,
          optional: true,
          placeholder: "path",
          brief: "Which .onnx of several (onnx/model.onnx)",
        },
        revision: {
          kind: "parsed",
          parse: String,
          default: "main",
          placeholder: "revision",
          brief: "Branch, tag or commit at the hub",
        },
        endpoint: {
          kind: "parsed",
          parse: String,
          default: "https://huggingface.co",
          placeholder: "url",
          brief: "Hub to fetch from",
        },
        private: { kind: "boolean", default: false, withNegated: false, brief: "Only its owner may run and fetch it" },
        ...url,
      },
      positional: one("source", "A folder, or owner/name at the hub"),
      load: async () => (await import("./commands/import.ts")).importModel,
    }),
    ls: defineCommand<GatewayFlags, [string?]>({
      brief: "List models",
      examples: ["model ls", "model ls acme/"],
      json: "{models: [{name, version, manifestDigest, status, visibility, sizeBytes, releasedAt, owner}]}",
      flags: { ...url },
      positional: perhaps("prefix", "Only names that begin so"),
      load: async () => (await import("./commands/model.ts")).list,
    }),
    show: defineCommand<GatewayFlags, [string]>({
      brief: "Show what a model takes and gives",
      examples: ["model show demo/digits", "model show demo/digits@1 --json"],
      json: "the gateway's model: {name, version, versions, manifest, signature, preprocessing, card, …}",
      flags: { ...url },
      positional: one("name", "Model"),
      load: async () => (await import("./commands/model.ts")).show,
    }),
    pull: defineCommand<PullFlags, [string]>({
      brief: "Fetch a model's files, each checked by its digest",
      examples: ["model pull demo/digits", "model pull demo/digits@1 --to old"],
      json: "{name, manifestDigest, path, files: [{path, sha256, sizeBytes}]}",
      flags: {
        to: {
          kind: "parsed",
          parse: String,
          optional: true,
          placeholder: "folder",
          brief: "Folder to make (the model's name)",
        },
        ...url,
      },
      positional: one("name", "Model: namespace/name or namespace/name@version"),
      load: async () => (await import("./commands/model.ts")).pull,
    }),
    rollback: defineCommand<GatewayFlags, [string]>({
      brief: "Make an older version the current one again",
      examples: ["model rollback acme/net@1", "model rollback acme/net@1 --json"],
      json: "the version as the gateway lists it",
      flags: { ...url },
      positional: version,
      load: async () => {
        const { change } = await import("./commands/model.ts");
        return (cli, flags, name) => change(cli, flags, name, "rollback");
      },
    }),
    price: modelPrice,
    deprecate: defineCommand<GatewayFlags, [string]>({
      brief: "Mark a version as not to be used",
      examples: ["model deprecate acme/net@1", "model deprecate acme/net@1 --json"],
      json: "the version as the gateway lists it",
      flags: { ...url },
      positional: version,
      load: async () => {
        const { change } = await import("./commands/model.ts");
        return (cli, flags, name) => change(cli, flags, name, "deprecate");
      },
    }),
  },
});

const receiptName = one("receipt", "An id, its first characters, or a file");

const receipt = buildRouteMap({
  docs: { brief: "List, read, export and disclose receipts" },
  routes: {
    ls: defineCommand<ListFlags>({
      brief: "List receipts kept here",
      examples: ["receipt ls", "receipt ls --remote --limit 100"],
      json: "{receipts: [{receiptId, model, mode, time}]}",
      flags: {
        limit: { kind: "parsed", parse: parse.limit, default: "20", placeholder: "number", brief: "Most to list" },
        model: { kind: "parsed", parse: String, optional: true, placeholder: "name", brief: "Only of this model" },
        remote: {
          kind: "boolean",
          default: false,
          withNegated: false,
          brief: "Those the gateway has of this home's owner instead",
        },
        ...url,
      },
      load: async () => (await import("./commands/receipt.ts")).list,
    }),
    show: defineCommand<GatewayFlags, [string]>({
      brief: "Show what a receipt states",
      examples: ["receipt show 0193a1b2", "receipt show answer.receipt --json"],
      json: "the API's view: {receiptId, executionDigest, issuedAt, statements, keysets, log, openings, fields, …}",
      flags: { ...url },
      positional: receiptName,
      load: async () => (await import("./commands/receipt.ts")).show,
    }),
    refresh: defineCommand<GatewayFlags & { save?: string }, [string]>({
      brief: "Fetch what has become of a receipt: settlement, anchor, audits",
      examples: ["receipt refresh 0193a1b2", "receipt refresh answer.receipt --save whole.receipt"],
      json: "{path, receiptId, supplements, anchors}",
      flags: { ...url, ...save },
      positional: receiptName,
      load: async () => (await import("./commands/receipt.ts")).refresh,
    }),
    export: defineCommand<ExportFlags, [string]>({
      brief: "Write a receipt in another form",
      examples: ["receipt export 0193a1b2 > answer.receipt", "receipt export 0193a1b2 --format tlog-proof"],
      json: "the export itself; with --save {path, sizeBytes}",
      flags: {
        format: {
          kind: "enum",
          values: ["receipt", "json", "tlog-proof", "cose", "air"],
          default: "receipt",
          brief: "The file, its JSON view, a C2SP proof, an RFC 9942 receipt, or AIR v1",
        },
        ...save,
        ...url,
      },
      positional: receiptName,
      load: async () => (await import("./commands/receipt.ts")).exportReceipt,
    }),
    open: defineCommand<OpenFlags, [string]>({
      brief: "Write a receipt that discloses only the fields you name",
      examples: [
        "receipt open 0193a1b2 --field output/label > partial.receipt",
        "receipt open 0193a1b2 --field request:model --field input/image/meta --save partial.receipt",
      ],
      json: "the receipt itself; with --save {path, sizeBytes}",
      flags: {
        field: {
          kind: "parsed",
          parse: String,
          variadic: true,
          placeholder: "name",
          brief: "Field to disclose: model, input/NAME, output/NAME/data, request:NAME",
        },
        ...save,
        ...url,
      },
      positional: receiptName,
      load: async () => (await import("./commands/receipt.ts")).open,
    }),
  },
});

const trustRoutes = buildRouteMap({
  docs: { brief: "Keys and logs that verification starts from" },
  routes: {
    export: defineCommand<GatewayFlags>({
      brief: "Write a trust file for a gateway",
      examples: ["trust export > trust.json", "trust export --url https://assay.example > trust.json"],
      json: "the trust file, which is JSON already",
      flags: { ...url },
      load: async () => (await import("./commands/trust.ts")).exportTrust,
    }),
    show: defineCommand<NoFlags, [string?]>({
      brief: "Show what is trusted here",
      examples: ["trust show", "trust show auditor.json"],
      json: "{trustFile, trust}",
      flags: {},
      positional: perhaps("file", "A trust file (trust.json of the home)"),
      load: async () => (await import("./commands/trust.ts")).show,
    }),
  },
});

const log = buildRouteMap({
  docs: { brief: "Read, prove, follow and witness transparency logs" },
  routes: {
    checkpoint: defineCommand<CheckpointFlags>({
      brief: "Show the log's latest signed state",
      examples: ["log checkpoint", "log checkpoint --url https://assay.example --trust theirs.json"],
      json: "{origin, size, root, status, note}",
      flags: { ...trust, ...url },
      load: async () => (await import("./commands/log.ts")).checkpoint,
    }),
    prove: defineCommand<GatewayFlags, [string]>({
      brief: "Show that a receipt is in the log",
      examples: ["log prove 0193a1b2", "log prove answer.receipt > answer.tlog-proof"],
      json: "{receipt, proof}",
      flags: { ...url },
      positional: receiptName,
      load: async () => (await import("./commands/log.ts")).prove,
    }),
    monitor: defineCommand<MonitorFlags, [string]>({
      brief: "Follow a log and check that its history only grows",
      examples: ["log monitor http://127.0.0.1:8402", "log monitor https://assay.example --once --trust theirs.json"],
      json: "one object a round: {verdict, reason, previousSize, size, entriesChecked, note, path, index}",
      flags: {
        once: { kind: "boolean", default: false, withNegated: false, brief: "One round, then end" },
        intervalMs: {
          kind: "parsed",
          parse: parse.intervalMs,
          default: "10000",
          placeholder: "number",
          brief: "Milliseconds between rounds",
        },
        ...trust,
      },
      positional: one("url", "Gateway whose log to follow"),
      load: async () => (await import("./commands/log.ts")).monitor,
    }),
    witness: defineCommand<WitnessFlags>({
      brief: "Cosign the checkpoints of trusted logs",
      examples: ["log witness --listen 8404", "log witness --name witness.example --trust theirs.json"],
      json: "{url, vkey, logs}, then it keeps running",
      flags: {
        listen: {
          kind: "parsed",
          parse: parse.port,
          default: "8404",
          placeholder: "port",
          brief: "Port on this machine",
        },
        name: {
          kind: "parsed",
          parse: String,
          default: "assay.local/witness",
          placeholder: "name",
          brief: "Name of the witness in its key",
        },
        ...trust,
      },
      load: async () => (await import("./commands/log.ts")).witness,
    }),
  },
});

const doctor = defineCommand<NoFlags>({
  brief: "Check that this machine can do all of it",
  examples: ["doctor", "doctor --json > report.json"],
  json: "{healthy, version, checks: [{name, status, message, hint}]}",
  flags: {},
  load: async () => (await import("./commands/doctor.ts")).doctor,
});

const db = buildRouteMap({
  docs: { brief: "The database behind lists" },
  routes: {
    rebuild: defineCommand<NoFlags>({
      brief: "Make the database again from the log",
      examples: ["db rebuild", "db rebuild --json"],
      json: "{before, after, equal}: fingerprints of all derived rows",
      flags: {},
      load: async () => (await import("./commands/db.ts")).rebuild,
    }),
  },
});

const key = buildRouteMap({
  docs: { brief: "The key that you are known by" },
  routes: {
    show: defineCommand<NoFlags>({
      brief: "Show the public key of this home's owner",
      examples: ["key show", "key show --json"],
      json: "{owner, publicKey, namespace, path}",
      flags: {},
      load: async () => (await import("./commands/key.ts")).show,
    }),
  },
});

/** The whole command line. No command's module is loaded before it runs. */
export function buildCli(
  version: string,
  styles: { readonly answer: Style; readonly errors: Style },
): Application<CliContext> {
  const root = buildRouteMap({
    docs: { brief: "Assay runs models and gives, with every answer, a receipt that anyone can check." },
    routes: {
      start,
      chat,
      run,
      verify,
      model,
      route,
      upstream,
      price,
      node,
      proxy,
      wallet,
      pay,
      batch,
      chain,
      receipt,
      trust: trustRoutes,
      log,
      doctor,
      db,
      key,
    },
  });
  return buildApplication(
    root,
    {
      name: "assay",
      scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
      documentation: { disableAnsiColor: true },
      localization: { text: cliText(styles.errors) },
    },
    {
      help: helpIntegration(styles.answer),
      version: {
        flag: {
          brief: "Show the version",
          aliases: ["v"],
          run() {
            this.process.stdout.write(`${version}\n`);
          },
        },
      },
    },
  );
}
