/**
 * Send usage events to Headroom without ever slowing a request down. Copy this file: Node 20+, Deno, Bun; no packages.
 *
 *     const headroom = new HeadroomEvents("https://headroom.example.com/v1/analytics/my-api/", process.env.HEADROOM_KEY!);
 *     headroom.capture("acme", { endpoint: "/v1/search", status: 200 }); // returns at once, never throws
 *     headroom.capture("acme", { api_quota_monthly: 100_000 }, "quota_set");
 *     console.log(headroom.dropped, headroom.problem); // what got lost, and what went wrong last
 *     process.once("SIGTERM", () => server.close(() => headroom.close(5000)));
 *
 * Each event gets its id and time when it is captured, so that a repeated request counts once. `close` waits so many
 * milliseconds at most. It runs by itself when Node has nothing left to do. A signal or process.exit() ends Node
 * without that: call it there, as above.
 */

export interface HeadroomOptions {
  batchSize?: number;
  maxAgeMs?: number;
  queueSize?: number;
  /** How long a wrong key or address may last: while a key is changed, say. */
  refusedMs?: number;
}

/** The events are at fault; any other refusal is of the key or the address. */
const REFUSED_FOR_GOOD = [400, 413, 415, 422];

/** Queues events, and sends them in batches. One for each process is enough. */
export class HeadroomEvents {
  /** Events that were not, or not for certain, received. */
  dropped = 0;
  /** What went wrong last. */
  problem = "";
  #queue: string[] = [];
  #inFlight = 0;
  /** Of the dropped ones; and the line that says how many more. */
  #reported = 0;
  #report: { line: string; dropped: number } | undefined;
  #refusedAt: number | undefined;
  #isClosing = false;
  #isGivenUp = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<void> | undefined;
  #aborter: AbortController | undefined;
  #wake = (): void => {};
  readonly #url: string;
  readonly #key: string;
  readonly #options: Required<HeadroomOptions>;

  constructor(url: string, key: string, options: HeadroomOptions = {}) {
    this.#url = url;
    this.#key = key;
    this.#options = { batchSize: 500, maxAgeMs: 1000, queueSize: 10_000, refusedMs: 900_000, ...options };
    (globalThis as { process?: { once?: Function } }).process?.once?.("beforeExit", () => this.close());
  }

  /** Queue an event. If the queue is full, or the event cannot be written as JSON, it is dropped and counted. */
  capture(accountId: string, properties: Record<string, unknown> = {}, event = "api_call"): void {
    try {
      if (this.#isClosing || this.#queue.length >= this.#options.queueSize) {
        this.dropped += 1;
        this.problem ||= "captured after close(), or faster than the collector takes it";
        return;
      }
      this.#queue.push(line(event, { account_id: accountId, ...properties }));
      if (this.#queue.length >= this.#options.batchSize) this.#start();
      else this.#timer ??= unref(setTimeout(() => this.#start(), this.#options.maxAgeMs));
    } catch (error) {
      this.#drop(1, String(error)); // nothing that goes wrong here is worth a failed request
    }
  }

  /** Wait until everything is sent (or dropped); false if that takes longer. */
  async flush(timeoutMs = 5000): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const isLate = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), timeoutMs)));
    const isDone = await Promise.race([this.#start().then(() => true), isLate]);
    clearTimeout(timer);
    return isDone;
  }

  /** Send what is left, for so long at most; the rest is dropped. Later captures are dropped too. */
  async close(timeoutMs = 5000): Promise<void> {
    this.#isClosing = true;
    this.#wake();
    if (await this.flush(timeoutMs)) return;
    this.#isGivenUp = true;
    this.#aborter?.abort();
    this.#drop(this.#queue.length + this.#inFlight, `closed before they could be sent; ${this.problem}`);
    this.#queue = [];
    this.#inFlight = 0;
  }

  /** Send all that is queued, unless that is under way. */
  #start(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    return (this.#sending ??= this.#run());
  }

  async #run(): Promise<void> {
    await undefined; // so that #start has noted that this is under way
    while (this.#queue.length > 0 && !this.#isGivenUp) {
      const batch = this.#queue.splice(0, this.#options.batchSize);
      this.#inFlight = batch.length;
      const dropped = this.dropped - this.#reported;
      this.#report = undefined;
      if (dropped) {
        this.#report = { line: line("events_dropped", { dropped, problem: this.problem }), dropped };
        batch.push(this.#report.line);
      }
      await this.#send(batch);
      this.#inFlight = 0;
    }
    this.#sending = undefined;
  }

  /** Send until it is received or refused; as long as the collector is away, only the queue fills up. */
  async #send(batch: string[]): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const [status, problem, waitMs] = await this.#post(`[${batch.join(",")}]`);
      if (this.#isGivenUp) return;
      const report = this.#report && batch.includes(this.#report.line) ? this.#report : undefined;
      if (status >= 200 && status < 300) {
        this.#refusedAt = undefined;
        this.#reported += report?.dropped ?? 0;
        return;
      }
      this.problem = problem;
      if (status === 413 && batch.length > 1) {
        await this.#send(batch.slice(0, batch.length / 2));
        return this.#send(batch.slice(batch.length / 2));
      }
      if (status > 0 && status < 500 && status !== 408 && status !== 429) {
        if (REFUSED_FOR_GOOD.includes(status) || this.#refusedForMs() >= this.#options.refusedMs) {
          return this.#drop(batch.length - (report ? 1 : 0), problem);
        }
      }
      if (attempt) console.warn(`headroom: ${batch.length} events wait, ${this.dropped} were dropped: ${problem}`);
      const backoffMs = Math.min(30_000, 250 * 2 ** attempt) * (0.5 + Math.random() / 2);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        const timer = setTimeout(resolve, this.#isClosing ? 100 : (waitMs ?? backoffMs));
        if (!this.#isClosing) unref(timer);
      });
    }
  }

  /** The answer's status, or 0 if there was none; what went wrong; its Retry-After. */
  async #post(body: string): Promise<[status: number, problem: string, waitMs: number | undefined]> {
    const aborter = (this.#aborter = new AbortController());
    const timer = setTimeout(() => aborter.abort(new Error("no answer within 10 seconds")), 10_000);
    try {
      const headers = { Authorization: `Bearer ${this.#key}`, "Content-Type": "application/json" };
      const { signal } = aborter;
      const answer = await fetch(this.#url, { method: "POST", body, headers, signal, redirect: "manual" });
      await answer.body?.cancel();
      const wait = answer.headers.get("Retry-After") ?? "";
      const waitMs = /^\d+$/.test(wait) ? Math.min(60, Number(wait)) * 1000 : undefined;
      return [answer.status, `HTTP ${answer.status}`, waitMs];
    } catch (error) {
      return [0, error instanceof Error ? `${error.message} ${error.cause ?? ""}` : String(error), undefined];
    } finally {
      clearTimeout(timer);
    }
  }

  #refusedForMs(): number {
    const now = performance.now();
    return now - (this.#refusedAt ??= now);
  }

  #drop(count: number, problem: string): void {
    this.dropped += count;
    this.problem = problem;
    console.warn(`headroom: ${count} events dropped: ${problem}`);
  }
}

/** Let the process end although the timer runs. */
function unref<T>(timer: T): T {
  (timer as { unref?: () => void }).unref?.();
  return timer;
}

function line(event: string, properties: Record<string, unknown>): string {
  const said = { event, uuid: crypto.randomUUID(), timestamp: new Date().toISOString() };
  return JSON.stringify({ ...said, properties }, wellFormed);
}

/** Half a character makes the whole batch unreadable as JSON. */
function wellFormed(_name: string, value: unknown): unknown {
  return typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\uFFFD") : value;
}
