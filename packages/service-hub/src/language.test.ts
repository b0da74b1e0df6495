import { describe, expect, it } from "vitest";
import { languageOf } from "./language.ts";

const file = (path: string, sizeBytes = 10) => ({ path, sha256: path, sizeBytes });
const ports = (inputs: readonly string[], outputs: readonly string[]) => ({
  inputs: inputs.map((name) => ({ name })),
  outputs: outputs.map((name) => ({ name })),
});
const decoder = ports(["input_ids", "attention_mask", "past_key_values.0.key"], ["logits", "present.0.key"]);
const nodes = [{ opType: "MatMul" }, { opType: "Softmax" }];
const layout = [file("model.onnx"), file("tokenizer.json"), file("config.json")];
const config = (text: string) => async () => new TextEncoder().encode(text);

describe("languageOf", () => {
  it("tells a decoder by its logits, with family and context from its configuration", async () => {
    const read = config('{"model_type":"llama","max_position_embeddings":512}');
    expect(await languageOf(layout, decoder, nodes, read)).toEqual({
      task: "text-generation",
      family: "llama",
      contextTokens: 512,
      recheckable: true,
    });
  });
  it("tells an encoder by its vector", async () => {
    const encoder = ports(["input_ids", "attention_mask"], ["sentence_embedding"]);
    expect((await languageOf(layout, encoder, nodes, config("{}")))?.task).toBe("feature-extraction");
  });
  it.each([
    ["no tokenizer", [file("model.onnx")], decoder],
    ["no token ids", layout, ports(["image"], ["logits"])],
    ["neither logits nor a vector", layout, ports(["input_ids"], ["scores"])],
  ])("says nothing of a model with %s", async (_, files, signature) => {
    expect(await languageOf(files, signature, nodes, config("{}"))).toBeUndefined();
  });
  it.each(["not json", "[]", "7", '{"model_type":7,"max_position_embeddings":-1}'])(
    "takes nothing from the configuration %s",
    async (text) => {
      const found = await languageOf(layout, decoder, nodes, config(text));
      expect(found).toEqual({ task: "text-generation", family: null, contextTokens: null, recheckable: true });
    },
  );
  it("tells that a graph which quantises while it runs cannot be checked by one pass", async () => {
    const quantised = [{ opType: "DynamicQuantizeLinear" }, { opType: "MatMulInteger" }];
    expect((await languageOf(layout, decoder, quantised, config("{}")))?.recheckable).toBe(false);
  });
  it("does not read a configuration beyond its limit", async () => {
    const files = [file("model.onnx"), file("tokenizer.json"), file("config.json", 256 * 1024 + 1)];
    const read = () => Promise.reject(new Error("was read"));
    expect((await languageOf(files, decoder, nodes, read))?.family).toBeNull();
  });
});
