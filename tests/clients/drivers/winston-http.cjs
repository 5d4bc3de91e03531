// Winston's transport: flat objects with `level` and `message` beside what was logged.
const { url, key, events, options, drive } = require("./driver_input.cjs");
const winston = require("winston");

drive(async (report) => {
  const isBatch = options.has("batch");
  const { hostname, port } = new URL(url);
  const auth = options.has("basic") ? { username: key, password: "unused" } : { bearer: key };
  const transport = new winston.transports.Http({
    host: hostname,
    port,
    path: "/logs",
    auth,
    batch: isBatch,
    batchCount: events.length,
  });
  transport.on("warn", report);
  const answered = new Promise((resolve) => {
    let count = 0;
    transport.on("logged", () => (count += 1) === (isBatch ? 1 : events.length) && resolve());
    transport.on("warn", resolve);
  });
  const logger = winston.createLogger({ transports: [transport] });
  for (const { id, account, time } of events) {
    logger.info("called", { event: "api_call", id, timestamp: time, properties: { account_id: account } });
  }
  await answered;
});
