import { buildRouteMap } from "@stricli/core";
import { defineCommand } from "./command.ts";
import { one, text, url } from "./flags.ts";
import type { GatewayFlags } from "./gateway.ts";
import * as parse from "./parse-flags.ts";
import type { AdmitFlags, EjectFlags, JoinFlags } from "./commands/node.ts";

const off = { kind: "boolean", default: false, withNegated: false } as const;
const key = one("key", "The node's key, 64 hexadecimal digits, as it printed it");

export const node = buildRouteMap({
  docs: { brief: "Execute for a gateway elsewhere, and decide who may" },
  defaultCommand: "join",
  routes: {
    join: defineCommand<JoinFlags>({
      brief: "Join a gateway and execute for it, signing with a key of one's own",
      examples: [
        "node --join http://127.0.0.1:8402 --models demo/digits,demo/chat --jurisdiction DE",
        "node --join https://assay.example --models demo/chat --invite CODE --public-url https://node.example",
      ],
      json: "{subject, key, url, gateway, state, models, cpuClass, country}, then it keeps running",
      flags: {
        join: { kind: "parsed", parse: String, placeholder: "url", brief: "Gateway to execute for" },
        models: { kind: "parsed", parse: String, placeholder: "names", brief: "Models of its hub, joined by commas" },
        jurisdiction: text("country", "Where this node is, as you declare it: two letters"),
        invite: text("code", "What lets it in at once, from the gateway's operator"),
        name: {
          kind: "parsed",
          parse: String,
          default: "default",
          placeholder: "name",
          brief: "Which of several nodes of this home",
        },
        host: text("address", "Address to listen at (127.0.0.1)"),
        port: { ...text("number", "Port to listen at (any that is free)"), parse: parse.port },
        publicUrl: text("url", "Where the gateway reaches it, when that is another address"),
        accelerator: text("name", "What computes beside the processor"),
        asset: text("name", "Asset of its prices (USD)"),
        perCall: text("amount", "Price of a call"),
        perMillionIn: text("amount", "Price of a million tokens in"),
        perMillionOut: text("amount", "Price of a million tokens out"),
        allowPlain: { ...off, brief: "Speak plain HTTP with another machine" },
        leave: { ...off, brief: "Leave the gateway at the end, instead of being away" },
      },
      load: async () => (await import("./commands/node.ts")).joinGateway,
    }),
    ls: defineCommand<GatewayFlags>({
      brief: "List nodes that joined",
      examples: ["node ls", "node ls --json"],
      json: "{nodes: [{key, subject, role, state, advertisement, audits, lastSeenMs, …}]}",
      flags: { ...url },
      load: async () => (await import("./commands/node.ts")).list,
    }),
    invite: defineCommand<GatewayFlags>({
      brief: "Make a code that lets one node in",
      examples: ["node invite", "node invite --json"],
      json: "{invite, expiresAt, url}",
      flags: { ...url },
      load: async () => (await import("./commands/node.ts")).invite,
    }),
    admit: defineCommand<AdmitFlags, [string]>({
      brief: "Let a node in that waits",
      examples: ["node admit KEY", "node admit KEY --country DE"],
      json: "{key, subject, state}",
      flags: { country: text("code", "Where it is, as your registry has it"), ...url },
      positional: key,
      load: async () => {
        const { decide } = await import("./commands/node.ts");
        return (cli, flags, of) => decide(cli, flags, "admit", of);
      },
    }),
    drain: defineCommand<GatewayFlags, [string]>({
      brief: "Give a node no new work",
      examples: ["node drain KEY", "node drain KEY --json"],
      json: "{key, subject, state}",
      flags: { ...url },
      positional: key,
      load: async () => {
        const { decide } = await import("./commands/node.ts");
        return (cli, flags, of) => decide(cli, flags, "drain", of);
      },
    }),
    eject: defineCommand<EjectFlags, [string]>({
      brief: "Turn a node out, and distrust what it signs from now on",
      examples: ["node eject KEY", 'node eject KEY --reason "answers differ"'],
      json: "{key, subject, state}",
      flags: { reason: text("text", "Why, for the record"), ...url },
      positional: key,
      load: async () => {
        const { decide } = await import("./commands/node.ts");
        return (cli, flags, of) => decide(cli, flags, "eject", of);
      },
    }),
  },
});
