import { Assay } from "@assay/sdk";

const assay = new Assay({ url: process.env["ASSAY_URL"] ?? "http://127.0.0.1:8402" });

const { vectors, verified } = await assay.embed({
  model: "demo/embed",
  input: ["the price of bread", "what a loaf costs", "a storm at sea"],
});
const [a, b, c] = vectors;
const cosine = (x: Float32Array, y: Float32Array): number => {
  const dot = (u: Float32Array, v: Float32Array): number => u.reduce((sum, value, i) => sum + value * (v[i] ?? 0), 0);
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
};
if (a && b && c) console.log("verified", verified, "nearer", cosine(a, b) > cosine(a, c));
