import { AssayError, isAssayError } from "@assay/core";

/** Two ends that send each other values which can be cloned: a worker's port, or the channel of a child process. */
export type Wire = {
  readonly post: (message: unknown) => void;
  readonly onMessage: (listener: (message: unknown) => void) => void;
};

/** Calls to the other end, answers to its calls, and notes that nobody answers. */
export type Link = {
  /** Throws what the other end's method threw, `settler_gone` when the other end went first. */
  readonly call: (method: string, argument?: unknown) => Promise<unknown>;
  readonly note: (name: string, argument?: unknown) => void;
  /** Fails every call under way: the other end is gone. */
  readonly sever: () => void;
};

type Message =
  | { readonly kind: "call"; readonly id: number; readonly method: string; readonly argument: unknown }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "fault"; readonly id: number; readonly code: string | null; readonly message: string }
  | { readonly kind: "note"; readonly name: string; readonly argument: unknown };

/** Calls under way in one direction: more means that the other end has stopped answering. */
export const MAX_CALLS = 10_000;

/** Links two ends over a wire. `methods` answer the other end's calls, `notes` hear its notes. */
export function createLink(
  wire: Wire,
  methods: Readonly<Record<string, (argument: never) => Promise<unknown>>>,
  notes: Readonly<Record<string, (argument: never) => void>>,
): Link {
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  let nextId = 1;
  let severed = false;

  async function answer({ id, method, argument }: Extract<Message, { kind: "call" }>): Promise<void> {
    try {
      const work = methods[method];
      if (!work) throw new TypeError(`There is no method ${method}.`);
      wire.post({ kind: "answer", id, value: await work(argument as never) } satisfies Message);
    } catch (error) {
      const code = isAssayError(error) ? error.code : null;
      const message = error instanceof Error ? error.message : "The other end failed.";
      wire.post({ kind: "fault", id, code, message } satisfies Message);
    }
  }

  wire.onMessage((raw) => {
    const message = raw as Message;
    switch (message.kind) {
      case "call":
        void answer(message);
        break;
      case "answer":
        waiting.get(message.id)?.resolve(message.value);
        waiting.delete(message.id);
        break;
      case "fault": {
        const error =
          message.code === null ? new Error(message.message) : new AssayError(message.code, message.message);
        waiting.get(message.id)?.reject(error);
        waiting.delete(message.id);
        break;
      }
      case "note":
        notes[message.name]?.(message.argument as never);
        break;
    }
  });

  return {
    call(method, argument) {
      if (severed) return Promise.reject(gone());
      if (waiting.size >= MAX_CALLS)
        return Promise.reject(new AssayError("settler_gone", "The settler has stopped answering."));
      const id = nextId++;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        wire.post({ kind: "call", id, method, argument } satisfies Message);
      });
    },
    note(name, argument) {
      if (!severed) wire.post({ kind: "note", name, argument } satisfies Message);
    },
    sever() {
      severed = true;
      for (const { reject } of waiting.values()) reject(gone());
      waiting.clear();
    },
  };
}

function gone(): AssayError<"settler_gone"> {
  return new AssayError("settler_gone", "The settler has ended.", {
    hints: ["Payments that are due stay due: it goes on with them when it is started again."],
  });
}
