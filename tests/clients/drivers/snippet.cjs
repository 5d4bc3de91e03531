// Our snippet for Node.js in a process of its own: captures, and says what got lost.
const given = require("./given.cjs");
const { HeadroomEvents } = require(given.snippet);

async function main() {
  const headroom = new HeadroomEvents(given.url, given.key, {
    batchSize: given.batch_size ?? 500,
    maxAgeMs: 1000 * (given.max_age_seconds ?? 1),
    queueSize: given.queue_size ?? 10_000,
  });
  const started = performance.now();
  for (const { account_id, ...properties } of given.captures) headroom.capture(account_id, properties);
  if (given.is_bad_captured) {
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
  if (given.is_problem_expected) {
    while (!headroom.problem) await new Promise((resolve) => setTimeout(resolve, 10));
    console.log(headroom.problem);
  }
  if (given.close_seconds !== undefined) {
    await headroom.close(given.close_seconds * 1000);
    await headroom.close();
    for (let count = 0; count < (given.captures_after_close ?? 0); count++) headroom.capture("acme");
    console.log(JSON.stringify({ dropped: headroom.dropped, problem: headroom.problem, seconds }));
  }
}

main();
