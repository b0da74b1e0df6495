import { AssayError } from "@assay/core";
import { Pool } from "pg";
import type { PoolClient } from "pg";
import { createCircuit } from "./circuit.ts";
import type { Database, QueryAnswer, Queryable, QueryOptions } from "./database.ts";
import { isAway, toDatabaseError } from "./errors.ts";

/** Connections of one process: PostgreSQL's work per query is short, and a cluster has many such processes. */
const DEFAULT_MAX_CONNECTIONS = 10;
/** A statement that runs longer than this holds locks that others wait for. */
const DEFAULT_STATEMENT_TIMEOUT_MS = 10_000;
/** Time to open a connection, or to wait for a free one. */
const DEFAULT_CONNECT_TIMEOUT_MS = 2_000;
/**
 * How long a connection that nobody uses is kept: each is a process of the server with some megabytes of its own. One stays,
 * because whoever comes after a pause would otherwise wait for the server to start it.
 */
const DEFAULT_IDLE_MS = 10_000;
const KEPT_CONNECTIONS = 1;
/** Callers that may wait for a connection: past this, waiting only adds latency to a failure. */
export const MAX_WAITING = 1_000;
/** How much longer than the server's own limit the client waits, so that the server's answer comes first. */
const CLIENT_GRACE_MS = 2_000;

export type ConnectOptions = {
  /** `postgresql://user:password@host/database`, or with `?host=<socket directory>`. */
  readonly url: string;
  readonly maxConnections?: number;
  readonly statementTimeoutMs?: number;
  readonly connectTimeoutMs?: number;
  /** How long a connection that nobody uses is kept, milliseconds; one always is. */
  readonly idleTimeoutMs?: number;
  /** Told of every failure that opens the circuit, for the log. */
  readonly onUnavailable?: (cause: unknown) => void;
};

/**
 * A pool of connections to a PostgreSQL server (15 or newer). Returns without connecting, so that a service starts
 * while its database is away. Refuses a malformed `url` with `database_url_invalid`.
 */
export function connectDatabase(options: ConnectOptions): Database {
  checkUrl(options.url);
  const statementTimeoutMs = options.statementTimeoutMs ?? DEFAULT_STATEMENT_TIMEOUT_MS;
  const max = options.maxConnections ?? DEFAULT_MAX_CONNECTIONS;
  const pool = new Pool({
    connectionString: options.url,
    max,
    min: Math.min(KEPT_CONNECTIONS, max),
    connectionTimeoutMillis: options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + CLIENT_GRACE_MS,
    idleTimeoutMillis: options.idleTimeoutMs ?? DEFAULT_IDLE_MS,
    keepAlive: true,
    application_name: "assay",
  });
  const circuit = createCircuit({ probe: () => pool.query("SELECT 1") });
  const trip = (cause: unknown): void => {
    if (!isAway(cause)) return;
    if (!circuit.isOpen()) options.onUnavailable?.(cause);
    circuit.trip(cause);
  };
  // A connection reports its loss as an event, idle or not; without a listener that would end the process.
  pool.on("error", trip);
  pool.on("connect", (client) => client.on("error", trip));

  async function connect(): Promise<PoolClient> {
    if (pool.waitingCount >= MAX_WAITING) throw overloaded();
    try {
      return await pool.connect();
    } catch (error) {
      // The pool uses one message for "no answer from the server" and "every connection is busy".
      const busy = error instanceof Error && error.message.startsWith("timeout exceeded when trying to connect");
      if (busy && pool.totalCount >= max && pool.idleCount === 0) throw overloaded(error);
      trip(error);
      throw toDatabaseError(error);
    }
  }

  /** Errors of statements come out of `run` mapped; whatever else `work` throws is the caller's own. */
  async function withClient<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    return circuit.guard(async () => {
      const client = await connect();
      let broken = false;
      try {
        return await work(client);
      } catch (error) {
        broken = isAway(error);
        if (broken) trip(error);
        throw error;
      } finally {
        client.release(broken);
      }
    });
  }

  let closing: Promise<void> | undefined;
  return {
    query: (text, values, queryOptions) => withClient(async (client) => run(client, text, values ?? [], queryOptions)),
    exec: (sql, queryOptions) => withClient(async (client) => void (await run(client, sql, undefined, queryOptions))),
    transaction: (work, transactionOptions) =>
      withClient(async (client) => {
        await run(
          client,
          `BEGIN ISOLATION LEVEL ${transactionOptions?.isolation ?? "read committed"}`,
          undefined,
          undefined,
        );
        try {
          const result = await work(onClient(client));
          await run(client, "COMMIT", undefined, undefined);
          return result;
        } catch (error) {
          // The first error is the one to tell; a rollback fails only when the connection is gone, which rolls back too.
          await client.query("ROLLBACK").catch(trip);
          throw error;
        }
      }),
    available: () => !circuit.isOpen(),
    close() {
      circuit.close();
      closing ??= pool.end();
      return closing;
    },
  };
}

function onClient(client: PoolClient): Queryable {
  return {
    query: (text, values, options) => run(client, text, values ?? [], options),
    async exec(sql, options) {
      await run(client, sql, undefined, options);
    },
  };
}

async function run(
  client: PoolClient,
  text: string,
  values: readonly unknown[] | undefined,
  options: QueryOptions | undefined,
): Promise<QueryAnswer> {
  try {
    const answer = await client.query<Record<string, unknown>>({
      text,
      // Without a `values` key `pg` uses the simple protocol, the only one that takes several statements.
      ...(values === undefined ? {} : { values: [...values] }),
      ...(options?.plan === undefined ? {} : { name: options.plan }),
      ...(options?.timeoutMs === undefined ? {} : { query_timeout: options.timeoutMs }),
    });
    return { rows: answer.rows, rowCount: answer.rowCount ?? 0 };
  } catch (error) {
    throw toDatabaseError(error);
  }
}

function overloaded(cause?: unknown): AssayError<"database_overloaded"> {
  return new AssayError("database_overloaded", "Every connection to PostgreSQL is busy.", {
    hints: ["Repeat the call later, or allow more connections."],
    cause,
  });
}

function checkUrl(url: string): void {
  // The text itself is never repeated: it may hold a password.
  if (/^postgres(ql)?:\/\//.test(url) && URL.canParse(url.replace(/^postgres(ql)?:\/\/([^/@]*@)?\//, "http://h/")))
    return;
  throw new AssayError("database_url_invalid", "The database address is not a PostgreSQL URL.", {
    hints: ["Write postgresql://user:password@host:5432/database."],
  });
}
