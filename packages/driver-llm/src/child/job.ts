/** Something that a child computes in steps, between which others have their turn. */
export type Job = {
  readonly id: number;
  /** Whether it waits for its consumer and has nothing to do until then. */
  readonly paused: () => boolean;
  /** Does one step; true when it is done. */
  readonly step: () => Promise<boolean>;
  /** Frees what it holds; called once, however it ends. */
  readonly close: () => void;
};
