/** How a campaign ends that does not end by itself. */
export interface CampaignEnd {
  /** Ends all that it started. */
  end: (keepsFolder: boolean) => void;
  complain: (line: string) => void;
  /** Past that it hangs. */
  afterMs: number;
}

/** Signals, a crash of this process and a hang leave nothing running either. */
export function endWithThisProcess({ end, complain, afterMs }: CampaignEnd): void {
  const codes = { SIGTERM: 143, SIGINT: 130, SIGHUP: 129 } as const;
  for (const [signal, code] of Object.entries(codes))
    process.once(signal, () => {
      end(false);
      process.exit(code);
    });
  const fail = (why: string): void => {
    complain(why);
    end(true);
    process.exit(1);
  };
  process.once('uncaughtException', (error: Error) => fail(error.stack ?? error.message));
  setTimeout(() => fail('the campaign hangs and is given up'), afterMs).unref();
}
