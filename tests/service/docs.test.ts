import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { AssayError } from "@assay/core";
import { problemOf } from "@assay/service-gateway";
import { beforeAll, describe, expect, it } from "vitest";
import { exitOfError } from "../../apps/assay/src/cli/exit-codes.ts";
import { envExample } from "../../apps/assay/src/config.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** Codes of one word, which the shape of a literal does not give away. */
const ONE_WORD = ["canonical", "included", "unexpected", "verified"];

/**
 * Literals in the sources that look like codes and are names of other things. Whoever adds one says here what it is;
 * whoever adds a code writes its page instead.
 */
const OTHER_NAMES: Readonly<Record<string, readonly string[]>> = {
  "claims of AIR v1": [
    "attestation_doc_hash",
    "eat_nonce",
    "enclave_measurements",
    "execution_time_ms",
    "measurement_type",
    "memory_peak_mb",
    "model_hash",
    "model_hash_scheme",
    "model_id",
    "model_version",
    "policy_version",
    "request_hash",
    "response_hash",
    "security_mode",
    "sequence_number",
  ],
  "columns of the database": [
    "amount_atomic",
    "block_hash",
    "block_number",
    "cap_atomic",
    "channel_id",
    "created_at_ms",
    "deadline_s",
    "error_code",
    "error_message",
    "execution_digest",
    "expires_at_ms",
    "first_leaf",
    "from_index",
    "gas_used",
    "grant_sha256",
    "issued_at_ms",
    "job_id",
    "leaf_count",
    "log_index",
    "log_root",
    "log_size",
    "manifest_digest",
    "max_fee",
    "pay_to",
    "payment_id",
    "receipt_id",
    "refers_to",
    "refund_nonce",
    "released_at_ms",
    "service_digest",
    "signed_max",
    "size_bytes",
    "supplement_index",
    "taken_at_ms",
    "taken_by",
    "to_index",
    "total_claimed",
    "tx_hash",
    "under_way",
    "unsettled_permit2",
    "updated_at_ms",
    "withdraw_requested_at",
  ],
  "events of chain and settler, which the log names": [
    "batch_built",
    "anchor_recovered",
    "batch_failed",
    "batch_posted",
    "chain_died",
    "chain_given_up",
    "chain_keeping_failed",
    "chain_replaced",
    "chain_restarted",
    "job_ended",
    "job_failed",
    "job_started",
    "payment_dead",
    "settler_died",
    "settler_given_up",
    "settler_restarted",
    "tx_dropped",
    "tx_gap_filled",
    "tx_poll_failed",
    "tx_problem",
    "tx_reorganised",
    "tx_repriced",
  ],
  "methods of Ethereum nodes and what their refusals are sorted by": [
    "eth_call",
    "evm_mine",
    "fee_above_limit",
    "nonce_used",
  ],
  "outcomes that metrics count": ["not_kept", "refund_refused"],
  "settings of PostgreSQL": ["idle_in_transaction_session_timeout"],
  "tables of the database": ["chain_transactions", "facilitator_settlements"],
  "what reasons of x402's channels begin with": ["invalid_batch_settlement_evm"],
  "fields and attributes of ONNX": [
    "double_data",
    "else_branch",
    "float_data",
    "hidden_size",
    "int32_data",
    "int64_data",
    "kernel_shape",
    "num_scan_inputs",
    "output_dtype",
    "silero_step",
    "silero_vad",
    "softmax_precision",
    "sparse_tensor",
    "stash_type",
    "string_data",
    "then_branch",
    "uint64_data",
  ],
  "fields of the Open Inference Protocol": [
    "binary_data",
    "binary_data_size",
    "binary_tensor_data",
    "model_name",
    "onnx_onnxv1",
  ],
  "fields of other formats and APIs": ["content_filter", "fortran_order", "given_up", "tool_calls"],
  "fields and values of OpenAI's API": [
    "accepted_prediction_tokens",
    "audio_tokens",
    "authentication_error",
    "best_of",
    "cached_tokens",
    "completion_tokens",
    "completion_tokens_details",
    "content_index",
    "context_length_exceeded",
    "created_at",
    "encrypted_content",
    "final_answer",
    "finish_reason",
    "frequency_penalty",
    "function_call",
    "function_call_output",
    "image_generation_call",
    "image_url",
    "in_memory",
    "incomplete_details",
    "in_progress",
    "input_audio",
    "input_file",
    "input_image",
    "input_text",
    "invalid_request_error",
    "item_reference",
    "json_object",
    "json_schema",
    "logit_bias",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "not_found_error",
    "output_index",
    "output_text",
    "owned_by",
    "parallel_tool_calls",
    "parsed_arguments",
    "permission_error",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_tokens",
    "prompt_tokens_details",
    "rate_limit_error",
    "reasoning_content",
    "reasoning_effort",
    "reasoning_text",
    "reasoning_tokens",
    "rejected_prediction_tokens",
    "response_format",
    "safety_identifier",
    "server_error",
    "service_tier",
    "stream_options",
    "system_fingerprint",
    "text_completion",
    "text_offset",
    "token_logprobs",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "web_search",
    "web_search_options",
  ],
  "fields and values of Anthropic's API": [
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "content_block",
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "input_json_delta",
    "input_tokens",
    "max_input_tokens",
    "message_delta",
    "message_start",
    "message_stop",
    "output_tokens",
    "output_tokens_details",
    "partial_json",
    "standard_only",
    "stop_reason",
    "text_delta",
    "thinking_delta",
    "thinking_tokens",
    "tool_result",
    "tool_use",
  ],
  "fields of language models' files": [
    "added_tokens",
    "attention_mask",
    "bos_token",
    "byte_fallback",
    "chat_template",
    "context_length",
    "do_sample",
    "eos_token",
    "eos_token_id",
    "head_dim",
    "input_ids",
    "last_hidden_state",
    "max_model_len",
    "max_position_embeddings",
    "max_sequence_length",
    "model_max_length",
    "model_type",
    "n_ctx_train",
    "n_embd",
    "n_head",
    "n_positions",
    "num_attention_heads",
    "num_key_value_heads",
    "num_logits_to_keep",
    "pad_token",
    "past_key_values",
    "pooling_mode_cls_token",
    "position_ids",
    "pre_tokenizer",
    "raise_exception",
    "sentence_embedding",
    "token_embeddings",
    "token_type_ids",
    "unk_token",
    "vocab_size",
  ],
  "issues of zod": ["invalid_union", "unrecognized_keys"],
  "limits of a route, which statements name": [
    "cpu_class",
    "jurisdiction_evidence",
    "price_unbounded",
    "price_unknown",
  ],
  "reasons inside the program": ["no_generation", "no_tokens"],
  "steps of preprocessing documents": [
    "crop_to_content",
    "invert_if_light_background",
    "normalize_peak",
    "pad_to_aspect",
    "speech_probability",
  ],
};

function sources(): readonly { readonly path: string; readonly text: string }[] {
  const found: { path: string; text: string }[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!["node_modules", "dist", "testing"].includes(entry.name)) walk(path);
      } else if (/(?<!\.test|\.bench)\.ts$/.test(entry.name)) found.push({ path, text: read(path) });
    }
  };
  for (const name of readdirSync(join(root, "packages"))) if (name !== "testkit") walk(`packages/${name}/src`);
  walk("apps/assay/src");
  return found;
}

type Page = { name: string; title: string; where: string; body: string; todo: string };
const docs = (await import(join(root, "scripts/docs.mjs"))) as {
  errorPages: () => readonly Page[];
  errorIndex: () => string;
  variableRows: (text: string) => readonly string[];
};

describe("pages of error codes", () => {
  let pages: readonly Page[];
  let index: string;
  let written: Set<string>;
  let coded: Map<string, string>;

  beforeAll(() => {
    pages = docs.errorPages();
    index = docs.errorIndex();
    written = new Set(pages.map(({ name }) => name.replace(/\.md$/, "")));
    coded = new Map();
    for (const { path, text } of sources()) {
      for (const [, literal = ""] of text.matchAll(/"([a-z][a-z0-9]*(?:_[a-z0-9]+)+)"/g)) coded.set(literal, path);
      for (const word of ONE_WORD) if (text.includes(`"${word}"`)) coded.set(word, path);
    }
    // Metrics have names of the same shape and a prefix of their own.
    for (const literal of coded.keys()) if (literal.startsWith("assay_")) coded.delete(literal);
  });

  it("exist for every code in the sources, and for nothing else", () => {
    const others = new Set(Object.values(OTHER_NAMES).flat());
    const codes = [...coded].filter(([literal]) => !others.has(literal));
    expect(codes.length).toBeGreaterThan(250);
    expect(
      codes.filter(([code]) => !written.has(code)).map(([code, path]) => `${path}: ${code}`),
      "codes without a page in docs/errors",
    ).toEqual([]);
    expect(
      [...written].filter((code) => !coded.has(code)),
      "pages without a code",
    ).toEqual([]);
  });

  it("are not pages of names that were listed as something else", () => {
    const others = Object.values(OTHER_NAMES).flat();
    expect(new Set(others).size).toBe(others.length);
    expect(others.filter((name) => written.has(name))).toEqual([]);
    expect(
      others.filter((name) => !coded.has(name)),
      "names that no source has any more",
    ).toEqual([]);
  });

  it("say where, what happened and what to do", () => {
    for (const { name, title, where, body, todo } of pages) {
      expect(title, name).toBe(`# ${name.replace(/\.md$/, "")}`);
      expect(where.length, name).toBeGreaterThan(5);
      expect(body.length, name).toBeGreaterThan(30);
      expect(todo, name).toMatch(/^\*\*What to do\.\*\* .+\.$/s);
    }
  });

  it("give the HTTP status that the gateway gives", () => {
    for (const { name, where } of pages) {
      if (where.startsWith("Witness")) continue;
      const code = name.replace(/\.md$/, "");
      const { status } = problemOf(code === "internal_error" ? new Error("anything") : new AssayError(code, "-"));
      const stated = /HTTP (\d{3})/.exec(where)?.[1];
      if (stated !== undefined || status !== 400) expect(stated, code).toBe(String(status));
    }
  });

  it("give the exit code that the command line gives", () => {
    for (const { name, where } of pages) {
      const stated = /^Command line: exit code (\d+)|command line: exit code (\d+)/.exec(where);
      if (!stated) continue;
      const code = name.replace(/\.md$/, "");
      expect(Number(stated[1] ?? stated[2]), code).toBe(exitOfError(new AssayError(code, "-"), false));
    }
  });

  it("are all in the index, which `node scripts/docs.mjs` writes", () => {
    expect(read("docs/errors/README.md")).toBe(index);
  });
});

describe("other documents", () => {
  it("give a reason for every dependency, and for nothing that is none", () => {
    const manifests = [
      "package.json",
      ...["packages", "apps"].flatMap((folder) =>
        readdirSync(join(root, folder)).map((name) => `${folder}/${name}/package.json`),
      ),
      "bench/package.json",
    ].map((path) => JSON.parse(read(path)) as Record<string, Record<string, string> | undefined>);
    const kinds = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
    const npm = manifests
      .flatMap((manifest) => kinds.flatMap((kind) => Object.keys(manifest[kind] ?? {})))
      .filter((name) => !name.startsWith("@assay/"));
    const models = readdirSync(join(root, "models")).map((name) => `models/${name}`);
    const python = ["sdk-python", "tests/system", ...models]
      .map((folder) => `${folder}/requirements.txt`)
      .flatMap((path) => (existsSync(join(root, path)) ? read(path).split("\n") : []))
      .flatMap((line) => /^([A-Za-z0-9._-]+)/.exec(line)?.[1] ?? []);
    // The clients of the system tests are pinned with all that they pull in; reasons are given for the clients.
    const pinned = read("tests/system/text-requirements.txt").matchAll(/^(openai|opengradient)==/gm);
    python.push(...[...pinned].map(([, name = ""]) => name));
    const page = read("docs/decisions/dependencies.md");
    const explained = [...page.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name);
    expect(new Set(explained).size).toBe(explained.length);
    expect(explained.toSorted()).toEqual([...new Set([...npm, ...python])].toSorted());
  });

  it("list every environment variable as the program reads it, which `node scripts/docs.mjs` writes", () => {
    const rows = docs.variableRows(envExample());
    expect(rows.length).toBeGreaterThan(4);
    const page = read("docs/how-to/operate.md");
    expect([...page.matchAll(/^\| `[A-Z_]+` \|.*$/gm)].map(([row]) => row)).toEqual(rows);
  });

  it("point to files that are there", () => {
    const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "*.md"], {
      cwd: root,
      encoding: "utf8",
    });
    const broken: string[] = [];
    for (const path of files.trim().split("\n")) {
      if (!existsSync(join(root, path))) continue;
      for (const [, target = ""] of read(path).matchAll(/\]\(([^)\s]+)\)|src(?:set)?="([^"]+)"/g)) {
        if (target === "" || /^[a-z]+:/.test(target) || target.startsWith("#")) continue;
        const file = join(root, dirname(path), target.replace(/#.*$/, ""));
        if (!existsSync(file)) broken.push(`${path}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
  });
});
