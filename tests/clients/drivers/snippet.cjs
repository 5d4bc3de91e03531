// Our snippet for Node.js in a process of its own: captures, and says what got lost.
const input = require("./driver_input.cjs");

async function main() {
  const { HeadroomEvents } = await import(input.snippet);
  const headroom = new HeadroomEvents(input.url, input.key, {
    batchSize: input.batch_size ?? 500,
    maxAgeMs: 1000 * (input.max_age_seconds ?? 1),
    queueSize: input.queue_size ?? 10_000,
    refusedMs: 1000 * (input.refused_seconds ?? 900),
  });
  const started = performance.now();
  for (const { account_id, ...properties } of input.captures) headroom.capture(account_id, properties);
  if (input.is_bad_captured) {
    headroom.capture("acme", { endpoint: 1n });
    headroom.capture("acme", {
      get latency() {
        throw new Error("not now");
      },
    });
    const loop = {};
    loop.loop = loop;
    headroom.capture("acme", loop);
  }
  const seconds = (performance.now() - started) / 1000;
  if (input.is_problem_expected) {
    while (!headroom.problem) await new Promise((resolve) => setTimeout(resolve, 10));
    console.log(headroom.problem);
  }
  for (const { account_id, ...properties } of input.later_captures ?? []) {
    await headroom.flush(60_000);
    headroom.capture(account_id, properties);
  }
  if (input.close_seconds !== undefined) {
    await headroom.close(input.close_seconds * 1000);
    await headroom.close();
    for (let count = 0; count < (input.captures_after_close ?? 0); count++) headroom.capture("acme");
    console.log(JSON.stringify({ dropped: headroom.dropped, problem: headroom.problem, seconds }));
  }
}

main();
