import { utf8ToBytes } from "@assay/core";

/** A request whose body is there as bytes: it may have to be sent again, and receipts commit to it. */
export type ReadRequest = {
  readonly url: string;
  readonly method: string;
  readonly body: Uint8Array | undefined;
  readonly init: RequestInit;
};

/** A request as `fetch` takes it, its body read. */
export async function readRequest(input: string | URL | Request, init: RequestInit = {}): Promise<ReadRequest> {
  const method = (init.method ?? (input instanceof Request ? input.method : "GET")).toUpperCase();
  if (!(input instanceof Request)) {
    const { body } = init;
    const url = String(input);
    if (body === undefined || body === null) return { url, method, body: undefined, init };
    if (typeof body === "string") return { url, method, body: utf8ToBytes(body), init };
    if (body instanceof Uint8Array) return { url, method, body, init };
  }
  const request = new Request(input, init);
  const body = request.body ? new Uint8Array(await request.arrayBuffer()) : undefined;
  const { headers, signal } = request;
  return {
    url: request.url,
    method,
    body,
    init: { ...init, method, headers, signal, ...(body ? { body: body as NonNullable<RequestInit["body"]> } : {}) },
  };
}
