import type { GenerateParameters, TextFinishReason } from "@assay/protocol";

/** What the parent tells its child. */
export type ToChild =
  | {
      readonly type: "load";
      readonly path: string;
      readonly sha256: string | null;
      readonly packageDirectory: string | null;
      readonly sequences: number;
      readonly contextTokens: number;
      readonly threads: number;
      readonly chatTemplate: string | null;
    }
  | {
      readonly type: "start";
      readonly id: number;
      readonly kind: "chat" | "completion";
      readonly turns: readonly Turn[];
      readonly prompt: string | readonly number[];
      readonly parameters: GenerateParameters;
      readonly seed: number;
    }
  | { readonly type: "stop"; readonly id: number };

/** One turn of a conversation as llama.cpp's templates know them. */
export type Turn = { readonly role: "system" | "user" | "model"; readonly text: string };

/** What is known of a loaded model. */
export type Loaded = {
  readonly sha256: string;
  readonly engineVersion: string;
  readonly engineSha256: string;
  readonly cpuClass: string;
  readonly threads: number;
  readonly contextTokens: number;
  readonly vocabulary: number;
  readonly hasTemplate: boolean;
};

/** What a child tells its parent. */
export type FromChild =
  | ({ readonly type: "loaded" } & Loaded)
  | { readonly type: "failed"; readonly code: string; readonly message: string; readonly hints: readonly string[] }
  | { readonly type: "prompt"; readonly id: number; readonly tokens: number }
  | {
      readonly type: "piece";
      readonly id: number;
      readonly choice: number;
      readonly text: string;
      readonly tokens: readonly number[];
      readonly finish: TextFinishReason | null;
    }
  | {
      readonly type: "ended";
      readonly id: number;
      readonly code: string | null;
      readonly message: string;
      readonly hints: readonly string[];
    };

/** A message of a child, or undefined: memory that native code has overwritten may say anything. */
export function readMessage(value: unknown): FromChild | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const message = value as Record<string, unknown>;
  const isCount = (name: string): boolean => Number.isSafeInteger(message[name]) && (message[name] as number) >= 0;
  const isText = (name: string): boolean => typeof message[name] === "string";
  const isHex = (name: string): boolean => /^[0-9a-f]{64}$/.test(String(message[name]));
  const hasHints = Array.isArray(message["hints"]) && message["hints"].every((hint) => typeof hint === "string");
  switch (message["type"]) {
    case "loaded":
      return isHex("sha256") &&
        isHex("engineSha256") &&
        isHex("cpuClass") &&
        isText("engineVersion") &&
        ["threads", "contextTokens", "vocabulary"].every(isCount) &&
        typeof message["hasTemplate"] === "boolean"
        ? (message as FromChild)
        : undefined;
    case "failed":
      return isText("code") && isText("message") && hasHints ? (message as FromChild) : undefined;
    case "prompt":
      return isCount("id") && isCount("tokens") ? (message as FromChild) : undefined;
    case "piece": {
      const { tokens, finish } = message;
      const fine = Array.isArray(tokens) && tokens.every((token) => Number.isSafeInteger(token));
      return isCount("id") && isCount("choice") && isText("text") && fine && FINISHES.includes(finish as string | null)
        ? (message as FromChild)
        : undefined;
    }
    case "ended":
      return isCount("id") && (message["code"] === null || isText("code")) && isText("message") && hasHints
        ? (message as FromChild)
        : undefined;
    default:
      return undefined;
  }
}

const FINISHES: readonly (string | null)[] = [null, "stop", "length"];
