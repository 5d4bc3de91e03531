// What a driver reads from its standard input: where to send which events.
const input = JSON.parse(require("node:fs").readFileSync(0, "utf8"));

/** Send, and once more if that fails: what an application does whose client does not retry. */
async function insist(send) {
  try {
    await send();
  } catch {
    await send();
  }
}

/** Run a driver, in a process that stays alive meanwhile as a server does: PostHog's timers would let it end. */
async function drive(main) {
  const problems = [];
  const server = setInterval(() => {}, 1000);
  try {
    await main((problem) => problems.push(problem));
  } finally {
    clearInterval(server);
  }
  if (problems.length > 0) {
    console.error("reported:", ...problems);
    process.exit(1);
  }
}

module.exports = { ...input, options: new Set(process.argv.slice(2)), insist, drive };
