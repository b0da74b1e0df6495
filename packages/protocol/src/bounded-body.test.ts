import { expect, it } from "vitest";
import { bodyOf } from "./bounded-body.ts";

/** A request that comes in these pieces, and how many of them were asked for. */
function arriving(pieces: readonly string[], headers: Readonly<Record<string, string>> = {}) {
  let read = 0;
  async function* body(): AsyncGenerator<Uint8Array> {
    for (const piece of pieces) {
      read++;
      yield Buffer.from(piece);
      await Promise.resolve();
    }
  }
  return { request: { headers: new Headers(headers), body: body() }, read: () => read };
}
const textOf = async (pieces: readonly string[], max: number): Promise<string> =>
  Buffer.from(await bodyOf(arriving(pieces).request, max)).toString();

it("gives a body whole, whatever pieces it comes in", async () => {
  expect(await textOf(["abc"], 3)).toBe("abc");
  expect(await textOf(["a", "", "bc"], 3)).toBe("abc");
  expect(await bodyOf({ headers: new Headers(), body: null }, 3)).toEqual(new Uint8Array());
});

it("refuses one that says it is too large without reading it, and one that turns out to be without reading on", async () => {
  const said = arriving(["abcd"], { "content-length": "4" });
  await expect(bodyOf(said.request, 3)).rejects.toMatchObject({ code: "request_too_large" });
  expect(said.read()).toBe(0);
  const found = arriving(["ab", "cd", "ef"], { "content-length": "2" });
  await expect(bodyOf(found.request, 3)).rejects.toMatchObject({ code: "request_too_large" });
  expect(found.read()).toBe(2);
});
