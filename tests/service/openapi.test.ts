import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createApi, mountLedgerApi, openApiDocument } from "@assay/service-gateway";
import type { ApiModules } from "@assay/service-gateway";
import { beforeAll, describe, expect, test } from "vitest";

type Schema = { readonly $ref?: string; readonly [key: string]: unknown };
type Parameter = { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema: Schema };
type Answer = { readonly description?: string; readonly content?: Record<string, { readonly schema?: Schema }> };
type Operation = {
  readonly operationId: string;
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly security?: readonly Record<string, readonly string[]>[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema?: Schema }> };
  readonly responses: Record<string, Answer>;
};
type Document = {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string; readonly license: unknown };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: {
    readonly schemas: Record<string, Schema>;
    readonly securitySchemes: Record<string, unknown>;
  };
};

const COMMITTED = fileURLToPath(new URL("../../openapi.json", import.meta.url));
const { version } = JSON.parse(
  readFileSync(fileURLToPath(new URL("../../apps/assay/package.json", import.meta.url)), "utf8"),
) as { version: string };
const METHODS = new Set(["get", "post", "put", "patch", "delete"]);
const TAGS = new Set(["inference", "text", "receipts", "models", "tokens", "payments", "log", "operations"]);

let document: Document;
let operations: readonly (readonly [name: string, path: string, method: string, operation: Operation])[];

beforeAll(() => {
  // The document is a matter of the routes alone: nothing behind them is touched while they are declared.
  const options = { version, maxBlobBytes: 1, maxJsonBytes: 1 };
  const modules = new Proxy({ options } as unknown as ApiModules, {
    get(target, name) {
      if (name in target) return target[name as keyof ApiModules];
      return new Proxy({}, { get: () => () => undefined });
    },
  });
  const app = createApi(modules);
  mountLedgerApi(app, modules as unknown as Parameters<typeof mountLedgerApi>[1]);
  document = openApiDocument(app, version) as unknown as Document;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => [`${method} ${path}`, path, method, operation] as const),
  );
});

test("the committed document is what the routes say", () => {
  if (process.env["UPDATE"] === "1") writeFileSync(COMMITTED, `${JSON.stringify(document, null, 2)}\n`);
  const committed: unknown = existsSync(COMMITTED) ? JSON.parse(readFileSync(COMMITTED, "utf8")) : undefined;
  const hint =
    "openapi.json is not what the routes say: write it again with `UPDATE=1 npx vitest run --project service tests/service/openapi.test.ts`";
  expect(committed, hint).toEqual(document);
});

describe("the document as OpenAPI 3.1", () => {
  test("it names itself", () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info).toMatchObject({ title: "Assay", version, license: { name: "Apache-2.0" } });
    expect(operations.length).toBeGreaterThan(25);
  });

  test("every operation has an id of its own, a summary, a known tag and a problem to answer with", () => {
    const ids = operations.map(([, , , { operationId }]) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [name, , method, operation] of operations) {
      expect(METHODS.has(method), name).toBe(true);
      expect(operation.operationId, name).toMatch(/^[a-z]+\.[a-zA-Z]+$/);
      expect(operation.summary, name).toMatch(/^\S.{2,}$/);
      expect(operation.tags, name).toHaveLength(1);
      expect(TAGS.has(operation.tags?.[0] ?? ""), name).toBe(true);
      const codes = Object.keys(operation.responses);
      expect(
        codes.some((code) => /^2\d\d$/.test(code)),
        name,
      ).toBe(true);
      for (const code of codes) expect(code, name).toMatch(/^(?:[1-5]\d\d|default)$/);
      for (const answer of Object.values(operation.responses)) expect(answer.description, name).toMatch(/\S/);
      expect(operation.responses["default"]?.content?.["application/json"]?.schema, name).toEqual({
        $ref: `#/components/schemas/${operation.tags?.[0] === "text" ? "TextProblem" : "Problem"}`,
      });
    }
  });

  test("who may call is said with schemes that are declared", () => {
    const schemes = Object.keys(document.components.securitySchemes);
    expect(schemes.toSorted()).toEqual(["grant", "token"]);
    for (const [name, , , { security }] of operations)
      for (const scheme of (security ?? []).flatMap(Object.keys)) expect(schemes, name).toContain(scheme);
    const guarded = (id: string) => operations.find(([, , , { operationId }]) => operationId === id)?.[3].security;
    expect(guarded("receipts.list")).toEqual([{ token: [] }]);
    expect(guarded("receipts.bundle")).toEqual([{ grant: [] }, { token: [] }]);
    expect(guarded("models.release")).toEqual([{ token: [] }]);
    expect(guarded("models.rollback")).toEqual([{ token: [] }]);
    expect(guarded("models.infer")).toEqual([{}, { token: [] }]);
    expect(guarded("receipts.proof")).toBeUndefined();
  });

  test("every parameter of a path is declared, required, and none is declared that is not there", () => {
    for (const [name, path, , operation] of operations) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter ?? "").toSorted();
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
      expect(declared.map((parameter) => parameter.name).toSorted(), name).toEqual(inPath);
      for (const parameter of declared) expect(parameter.required, name).toBe(true);
      const keys = (operation.parameters ?? []).map((parameter) => `${parameter.in} ${parameter.name.toLowerCase()}`);
      expect(new Set(keys).size, name).toBe(keys.length);
      for (const parameter of operation.parameters ?? []) {
        expect(["path", "query", "header"], name).toContain(parameter.in);
        expect(parameter.schema, name).toBeTypeOf("object");
      }
    }
  });

  test("every body has a schema, and every reference leads somewhere", () => {
    for (const [name, , , operation] of operations) {
      const bodies = [
        operation.requestBody?.content ?? {},
        ...Object.values(operation.responses).map(({ content }) => content ?? {}),
      ];
      for (const content of bodies)
        for (const [type, { schema }] of Object.entries(content)) {
          expect(type, name).toMatch(/^[a-z]+\/[\w.+-]+$/);
          expect(schema, `${name} ${type}`).toBeTypeOf("object");
        }
    }
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, target]) => target ?? "");
    expect(references.length).toBeGreaterThan(operations.length);
    for (const target of references) {
      const name = /^#\/components\/schemas\/(\w+)$/.exec(target)?.[1] ?? "";
      expect(Object.keys(document.components.schemas), target).toContain(name);
    }
  });

  test("the routes of the log and of operations are in it too", () => {
    for (const path of [
      "/livez",
      "/readyz",
      "/metrics",
      "/openapi.json",
      "/log/checkpoint",
      "/log/vkeys",
      "/log/tile/{path}",
    ])
      expect(Object.keys(document.paths)).toContain(path);
  });
});
