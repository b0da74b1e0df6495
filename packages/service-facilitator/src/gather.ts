/** Brings together what arrives at about the same time. */
export type Gatherer<T> = {
  /** Says that something is on its way here; exactly one of both functions ends that. */
  readonly expect: () => { readonly arrive: (member: T) => void; readonly leave: () => void };
};

/**
 * Hands what arrives to `send`, one group after the other, in the order of arrival. What comes alone is handed over at
 * once; while more is expected, a group waits for it up to `waitMs`, and while one group is being sent the next gathers.
 * `fits` says whether a member may join those before it; one that may not waits for the next group. `send` does not throw.
 */
export function createGatherer<T>(options: {
  readonly waitMs: number;
  readonly most: number;
  readonly fits: (group: readonly T[], member: T) => boolean;
  readonly send: (group: readonly T[]) => Promise<void>;
}): Gatherer<T> {
  let waiting: T[] = [];
  let expected = 0;
  let running = false;
  let look = (): void => undefined;

  /** Resolves when nobody else is expected, when there are enough, or when it took too long. */
  function quiet(): Promise<void> {
    const isOver = (): boolean => expected === 0 || waiting.length >= options.most;
    if (isOver()) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        look = () => undefined;
        resolve();
      };
      const timer = setTimeout(end, options.waitMs);
      look = () => {
        if (isOver()) end();
      };
    });
  }

  function take(): readonly T[] {
    const group: T[] = [];
    const later: T[] = [];
    for (const member of waiting)
      (group.length < options.most && options.fits(group, member) ? group : later).push(member);
    waiting = later;
    return group;
  }

  async function run(): Promise<void> {
    if (running) return;
    running = true;
    while (waiting.length > 0) {
      await quiet();
      await options.send(take());
    }
    running = false;
  }

  return {
    expect() {
      expected++;
      return {
        arrive(member) {
          expected--;
          waiting.push(member);
          look();
          void run();
        },
        leave() {
          expected--;
          look();
        },
      };
    },
  };
}
